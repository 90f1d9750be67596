import { setTimeout as sleep } from 'node:timers/promises';
import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import type { Engine } from '../engine/engine.ts';
import { labelKeys } from '../engine/labels.ts';
import { isRunnerError, messageOf, RunnerError, type ErrorCode } from '../errors.ts';
import { checkJournal } from '../journal/check.ts';
import { WriterLock } from '../journal/lock.ts';
import { closeLostRun, inTurn, recoverNow, type Recovered } from '../recovery.ts';
import type { Run, Runner } from '../runner.ts';
import { Slots } from '../slots.ts';

export interface ReconcileParts {
  readonly runner: Runner;
  readonly engine: Engine;
  readonly dataDir: DataDir;
  /** Whether the service has heard of this run. Default: of every run. */
  readonly known?: (runId: string) => boolean;
  /** Goes on although the engine holds many sandboxes of ours of which the service has never heard. */
  readonly takeStrangers?: boolean;
  readonly onProgress?: (line: string) => void;
}

/** What a reconciliation did. */
export interface Reconciled {
  /** Living again. */
  readonly resumed: readonly Run[];
  /** Closed as lost. */
  readonly lost: readonly RunAndReason[];
  /** Neither: the engine does not answer, or nothing can be written. They are as they were. */
  readonly left: readonly RunAndReason[];
  /** What belonged to no run that could go on. */
  readonly removed: Recovered;
}

interface RunAndReason {
  readonly id: string;
  readonly reason: string;
}

/** So many runs are taken up side by side. */
const atOnce = 8;
/** More strangers than this, and more than half of all: it is the service that has lost its memory. */
const strangersMax = 3;

/**
 * Brings what runners that died have left in line with what their journals say. Promises:
 *  - every run without an end whose runner is dead is living again afterwards, or closed as lost, with a journal that says so,
 *    or, where the engine or the disk is what fails, as it was, for the next time;
 *  - containers, volumes and mounts that belong to no such run are gone; what a living runner holds is left alone;
 *  - doing it twice changes nothing more, and it may be killed at any point and done again;
 *  - nothing is touched (`data_dir_unusable`) when most of what runs is unknown to the service: then its memory is what is lost.
 */
export function reconcile(parts: ReconcileParts): Promise<Reconciled> {
  return inTurn(parts.dataDir, () => reconcileNow(parts));
}

async function reconcileNow(parts: ReconcileParts): Promise<Reconciled> {
  const { runner, engine, dataDir, onProgress } = parts;
  await refuseStrangers(parts);
  const orphans = await orphansOf(dataDir);
  const done = { resumed: [] as Run[], lost: [] as RunAndReason[], left: [] as RunAndReason[] };
  const slots = new Slots(atOnce);
  const takeUp = async (id: string): Promise<void> => {
    try {
      done.resumed.push(await resume(runner, id));
      onProgress?.(`run ${id} goes on`);
    } catch (error) {
      const reason = messageOf(error);
      const isLeft = isRunnerError(error) && forNow.has(error.code);
      if (!isLeft) await closeLostRun(engine, dataDir, id, reason);
      (isLeft ? done.left : done.lost).push({ id, reason });
      onProgress?.(`run ${id} ${isLeft ? 'cannot be taken up now' : 'is lost'}: ${reason}`);
    }
  };
  await Promise.all(orphans.map((id) => slots.run(() => takeUp(id))));
  const removed = await recoverNow(engine, dataDir, { except: new Set(done.left.map(({ id }) => id)) });
  return { ...done, removed };
}

/** What does not say that the run is lost. */
const forNow: ReadonlySet<ErrorCode> = new Set([
  'engine_unavailable',
  'engine_timeout',
  'engine_failed',
  'journal_unavailable',
  'data_dir_unusable',
]);
const tries = 3;

async function resume(runner: Runner, id: string): Promise<Run> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await runner.resume(id);
    } catch (error) {
      const again = isRunnerError(error) && error.retryable && forNow.has(error.code);
      if (!again || attempt === tries) throw error;
      await sleep(attempt * 500);
    }
  }
}

/** Runs that are open and that nobody who lives writes to. Broken journals are evidence, and left to `glovebox check`. */
async function orphansOf(dataDir: DataDir): Promise<readonly string[]> {
  const found: string[] = [];
  for (const dir of await dataDir.listRuns()) if (await isOrphan(dir)) found.push(dir.id);
  return found.reverse();
}

async function isOrphan({ journal }: RunDir): Promise<boolean> {
  try {
    if (await WriterLock.isHeld(journal)) return false;
    const { closed, wholeBytes, findings } = await checkJournal(journal);
    return !closed && wholeBytes > 0 && findings.every(({ kind }) => kind === 'torn');
  } catch {
    return false; // it has none, or is being removed
  }
}

async function refuseStrangers({ engine, dataDir, known, takeStrangers }: ReconcileParts): Promise<void> {
  if (known === undefined || takeStrangers === true) return;
  const orphans: string[] = [];
  for (const { labels } of await engine.list({ [labelKeys.owner]: dataDir.owner })) {
    const { [labelKeys.instance]: instance, [labelKeys.sandbox]: sandbox = '' } = labels;
    const run = await dataDir.sandboxes.runOf(sandbox);
    if (run !== undefined && (instance === undefined || !(await dataDir.isAlive(instance)))) orphans.push(run);
  }
  const strangers = orphans.filter((run) => !known(run));
  if (strangers.length <= strangersMax || strangers.length * 2 <= orphans.length) return;
  const message =
    `the engine holds ${strangers.length} sandboxes of ${dataDir.path} of which its database knows nothing: it is new, or was put back ` +
    'from an older copy. Rebuild it from the journals, or say that the sandboxes are to be taken up all the same';
  throw new RunnerError('data_dir_unusable', message);
}
