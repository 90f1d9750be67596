import { renameSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import type { RunDir } from '../data-dir/data-dir.ts';
import { KeptFence } from '../egress/kept.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { awakeBetween, Moment } from '../machine-clock.ts';

/**
 * What a run's directory keeps for the next runner, from when the run is open until it is closed. Secret: it may hold the key of
 * the authority that programs inside trust. 0600, never exported, and gone with the run.
 */
const KeptRun = z.strictObject({
  /** How often somebody has begun to run it: 1 while nobody has resumed it. */
  generation: z.int().positive(),
  fence: KeptFence.optional(),
  /** A moment of the run by its own clock (`mono` of its journal) and by those of the machine; absent in old ones. */
  clock: z.strictObject({ runMs: z.number().nonnegative(), moment: Moment }).optional(),
});
export type KeptRun = Readonly<z.infer<typeof KeptRun>>;

/**
 * The time of its run now, where the machine was not booted meanwhile: no wall clock that somebody sets makes it longer or
 * shorter. Undefined: nobody has counted.
 */
export function runMsOf({ clock }: Pick<KeptRun, 'clock'>, now: Moment): number | undefined {
  const sinceMs = clock && awakeBetween(clock.moment, now);
  return clock === undefined || sinceMs === undefined ? undefined : clock.runMs + sinceMs;
}

/** Seen whole or not at all. */
export function keepRun(dir: RunDir, kept: KeptRun): void {
  const draft = `${dir.kept}.new`;
  writeFileSync(draft, JSON.stringify(kept), { mode: 0o600 });
  renameSync(draft, dir.kept);
}

/** Throws `sandbox_lost` where there is none: the run was never open, or what is kept of it cannot be read. */
export async function readKeptRun(dir: RunDir): Promise<KeptRun> {
  try {
    return KeptRun.parse(JSON.parse(await readFile(dir.kept, 'utf8')));
  } catch (cause) {
    const why =
      (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'its opening had not come to an end' : messageOf(cause);
    throw new RunnerError('sandbox_lost', `run ${dir.id} cannot be resumed: ${why}`, { cause });
  }
}
