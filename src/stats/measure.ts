import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import { isRunnerError, messageOf } from '../errors.ts';
import { timeOfId } from '../ids.ts';
import type { Believed } from '../promotion/reviews.ts';
import { Lanes } from './lanes.ts';
import { readFacts } from './read-facts.ts';
import { readJudgements } from './read-judgements.ts';

export interface MeasureOptions {
  /** Only runs that were opened since then; default all. */
  readonly sinceMs?: number | undefined;
  readonly nowMs: number;
  /** Whose reviews count. */
  readonly believed: Believed;
  /** After each run. */
  readonly onRead?: (read: number, of: number) => void;
  /** What is not what was written, and counts for nothing. */
  readonly onUnreadable?: (reason: string) => void;
  readonly signal?: AbortSignal;
}

/** So many journals are read side by side: of each one entry is in memory. */
const atOnce = 4;
/** An id is made before its run is opened, and a run may have waited for a sandbox. */
const slackMs = 3_600_000;

/** What the journals of a data directory say, and they alone; nothing is written. */
export async function measure(dataDir: DataDir, options: MeasureOptions): Promise<Lanes> {
  const { sinceMs, nowMs, believed, onRead, onUnreadable, signal } = options;
  const lanes = new Lanes({ nowMs });
  const { judgements, unreadable } = await readJudgements(dataDir, believed);
  const refuse = (reason: string): void => {
    lanes.missed('unreadable');
    onUnreadable?.(reason);
  };
  for (const reason of unreadable) refuse(reason);
  const dirs = (await dataDir.listRuns()).filter(({ id }) => timeOfId(id) >= (sinceMs ?? 0) - slackMs);
  let read = 0;
  const readOne = async (dir: RunDir): Promise<void> => {
    try {
      const facts = await readFacts(dir, (run) => dataDir.runDir(run));
      const isIn = facts !== undefined && Date.parse(facts.openedAt) >= (sinceMs ?? 0);
      if (isIn) lanes.add(facts, judgements.get(facts.run));
    } catch (error) {
      if (!isRunnerError(error)) throw error;
      refuse(`run ${dir.id}: ${messageOf(error)}`);
    }
    onRead?.(++read, dirs.length);
  };
  const waiting = dirs.values();
  const work = async (): Promise<void> => {
    for (const dir of waiting) {
      signal?.throwIfAborted();
      await readOne(dir);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return lanes;
}
