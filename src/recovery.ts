import type { DataDir, RunDir } from './data-dir/data-dir.ts';
import type { Engine } from './engine/engine.ts';
import { collect } from './engine/gc.ts';
import { isRunnerError } from './errors.ts';
import { readEntries } from './journal/read.ts';
import { Journal } from './journal/writer.ts';

/** What a recovery did, or with `dryRun` would do. */
export interface Recovered {
  readonly containers: readonly string[];
  readonly volumes: readonly string[];
  readonly runs: readonly { readonly id: string; readonly closedCalls: number }[];
}

/**
 * After a crash: containers of runners that are dead go, and every journal without an end gets one that says so. What
 * a living runner holds is left alone (its instance is alive, its journal locked). Doing it twice changes nothing.
 */
export async function recover(engine: Engine, dataDir: DataDir, options?: { dryRun?: boolean }): Promise<Recovered> {
  const dryRun = options?.dryRun === true;
  const removed = await collect(engine, { owner: dataDir.owner, isAlive: (instance) => dataDir.isAlive(instance), dryRun });
  const namesOf = (kind: 'container' | 'volume') => removed.filter((item) => item.kind === kind).map((item) => item.name);
  const runs: { id: string; closedCalls: number }[] = [];
  for (const dir of await dataDir.listRuns()) {
    const closed = await closeLostRun(dir, dryRun);
    if (closed !== undefined) runs.push({ id: dir.id, closedCalls: closed });
  }
  if (!dryRun) {
    for (const instance of await dataDir.listInstances()) if (!(await dataDir.isAlive(instance))) await dataDir.forgetInstance(instance.id);
  }
  return { containers: namesOf('container'), volumes: namesOf('volume'), runs };
}

/** The number of calls that were left without an outcome; undefined when there was nothing to do. */
async function closeLostRun(dir: RunDir, dryRun: boolean): Promise<number | undefined> {
  if (await isClosed(dir)) return undefined;
  if (dryRun) return 0;
  let reopened: Awaited<ReturnType<typeof Journal.reopen>>;
  try {
    reopened = await Journal.reopen(dir.journal);
  } catch (error) {
    // Held by a living runner, closed in the meantime, or broken: a broken journal is evidence and stays as it is.
    if (isRunnerError(error, 'journal_unavailable') || isRunnerError(error, 'run_not_open') || isRunnerError(error, 'journal_broken')) return undefined;
    throw error;
  }
  const { journal, recovery } = reopened;
  const calls = { made: 0, denied: 0, outputBytes: 0 };
  for await (const entry of readEntries(dir.journal)) {
    if (entry.type === 'call.intended') calls.made += 1;
    if (entry.type === 'call.denied') calls.denied += 1;
    if (entry.type === 'call.ended') calls.outputBytes += entry.data.output?.bytes ?? 0;
  }
  const summary = 'the runner ended before the run was closed';
  await journal.append({
    type: 'run.closed',
    data: { outcome: 'lost', summary, calls: calls.made, denied: calls.denied, outputBytes: calls.outputBytes, ms: 0 },
  });
  await journal.close();
  return recovery.closedCalls.length;
}

/** A run whose journal was never begun has nothing to close; its directory is only a trace of a crash. */
async function isClosed(dir: RunDir): Promise<boolean> {
  let last = 'none';
  try {
    for await (const entry of readEntries(dir.journal)) last = entry.type;
  } catch {
    return false;
  }
  return last === 'run.closed';
}
