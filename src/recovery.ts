import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { listBuildRecords } from './data-dir/build-records.ts';
import type { DataDir, RunDir } from './data-dir/data-dir.ts';
import type { Engine } from './engine/engine.ts';
import { collect } from './engine/gc.ts';
import { labelKeys } from './engine/labels.ts';
import { isRunnerError, RunnerError } from './errors.ts';
import { checkJournal } from './journal/check.ts';
import { WriterLock } from './journal/lock.ts';
import { readEntries } from './journal/read.ts';
import { Journal } from './journal/writer.ts';
import { readSupervisor, supervisorVolume } from './sandbox/supervisor-binary.ts';
import { BaseStore } from './workspace/base/bases.ts';
import { Layer } from './workspace/layer/layer.ts';

/** What a recovery did, or with `dryRun` would do. */
export interface Recovered {
  readonly containers: readonly string[];
  readonly volumes: readonly string[];
  /** Of setups that an operator gave one. */
  readonly networks: readonly string[];
  /** Runs, and sandboxes that waited for one, whose workspace lay on disk. */
  readonly layers: readonly string[];
  /** Keys of bases that nobody uses and that were above the caps. */
  readonly bases: readonly string[];
  /** Closed as lost. */
  readonly runs: readonly { readonly id: string; readonly closedCalls: number }[];
  /** Records of environment builds, closed as lost or, where nothing was in them, removed: `<environment>.<id>`. */
  readonly builds: readonly string[];
  /** Runs that died before their intent was on record; their directories are gone. */
  readonly neverBegun: readonly string[];
}

/**
 * After a crash. Promises:
 *  - containers and networks of runners that are dead go, and volumes of supervisors that are no longer ours;
 *  - every journal without an end gets one, and every call without an outcome `sandbox_lost`: nobody knows what became of it;
 *  - what a living runner holds is left alone: its instance is alive, its journal locked;
 *  - a broken journal is evidence and stays as it is, and so does a run whose journal is gone but which had a sandbox;
 *  - doing it twice changes nothing, and never does it go on while runs of this directory are being taken up.
 */
export function recover(engine: Engine, dataDir: DataDir, options?: { dryRun?: boolean }): Promise<Recovered> {
  return inTurn(dataDir, () => recoverNow(engine, dataDir, options));
}

/** The same, for who has the turn. `except`: runs that may still be resumed. */
export async function recoverNow(
  engine: Engine,
  dataDir: DataDir,
  options: { readonly dryRun?: boolean; readonly except?: ReadonlySet<string> } = {},
): Promise<Recovered> {
  const { dryRun = false, except = new Set<string>() } = options;
  const isAlive = async (instance: string, sandbox: string | undefined): Promise<boolean> =>
    (await dataDir.isAlive(instance)) || (sandbox !== undefined && (await isTakenUp(dataDir, sandbox, except)));
  const keepVolumes = [await currentVolume(engine)];
  const removed = await collect(engine, { owner: dataDir.owner, isAlive, keepVolumes, dryRun });
  // An engine lists volumes in any order.
  const namesOf = (kind: 'container' | 'volume' | 'network') =>
    removed.flatMap((item) => (item.kind === kind ? [item.name] : [])).sort();
  const runs: { id: string; closedCalls: number }[] = [];
  const neverBegun: string[] = [];
  const living = await settleInstances(dataDir, dryRun);
  const layers: string[] = [];
  for (const dir of await dataDir.listRuns()) {
    if (except.has(dir.id)) continue;
    if (await dropLayer(dir, dryRun)) layers.push(dir.id);
    const found = await judge(dir, living > 0);
    if (found.kind === 'never_begun') {
      if (!dryRun) await dataDir.removeRun(dir.id);
      neverBegun.push(dir.id);
    } else if (found.kind === 'lost') {
      const closedCalls = dryRun ? found.openCalls : await closeLost(dir);
      if (!dryRun) await dir.dropKept();
      if (closedCalls !== undefined) runs.push({ id: dir.id, closedCalls });
    } else if (found.kind === 'closed' && !dryRun) await settleClosed(dir);
  }
  if (living === 0 && !dryRun) {
    await dropTrials(dataDir.basesDir);
    await dataDir.sweepPartial();
  }
  layers.push(...(await dropWarm(dataDir, dryRun)));
  if (!dryRun) await dropLinks(dataDir, except);
  const builds = await closeBuilds(dataDir, dryRun);
  const bases = dryRun ? [] : await dropBases(dataDir);
  const [containers, volumes, networks] = [namesOf('container'), namesOf('volume'), namesOf('network')];
  return { containers, volumes, networks, layers, bases, runs, builds, neverBegun };
}

/** One at a time decides over what dead runners have left. Throws `data_dir_unusable` when nobody lets go in time. */
export async function inTurn<T>(dataDir: DataDir, work: () => Promise<T>): Promise<T> {
  const turn = join(dataDir.path, 'recovery');
  for (const endMs = performance.now() + turnTimeoutMs; ; await sleep(20 + Math.random() * 30)) {
    const lock = await WriterLock.acquire(turn).catch((error: unknown) => {
      if (!isRunnerError(error, 'journal_unavailable') || error.cause !== undefined) throw error;
      return undefined;
    });
    if (lock === undefined && performance.now() < endMs) continue;
    if (lock === undefined) {
      const message = `somebody else is taking up or removing runs of ${dataDir.path}; see which process holds ${turn}.lock.*`;
      throw new RunnerError('data_dir_unusable', message);
    }
    try {
      return await work();
    } finally {
      await lock.release();
    }
  }
}

const turnTimeoutMs = 120_000;

/** Whether a living process, or one to come, writes the journal of the run that has this sandbox, though whoever made it is dead. */
async function isTakenUp(dataDir: DataDir, sandbox: string, except: ReadonlySet<string>): Promise<boolean> {
  const run = await dataDir.sandboxes.runOf(sandbox);
  if (run === undefined) return false;
  if (except.has(run)) return true;
  const { journal } = dataDir.runDir(run);
  return WriterLock.isHeld(journal).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return false; // nothing of the run is left here
    throw error;
  });
}

/** A run of a dead runner that cannot go on: its sandbox goes, its journal says `lost`. May be called twice. */
export async function closeLostRun(engine: Engine, dataDir: DataDir, id: string, reason: string): Promise<void> {
  const dir = dataDir.runDir(id);
  if (await WriterLock.isHeld(dir.journal)) {
    const message = `run ${id} cannot be closed as lost: a living process writes its journal`;
    throw new RunnerError('journal_unavailable', message);
  }
  const owned = { [labelKeys.owner]: dataDir.owner };
  for (const { sandbox } of (await dataDir.sandboxes.list()).filter(({ run }) => run === id)) {
    const found = await engine.list({ ...owned, [labelKeys.sandbox]: sandbox });
    for (const { id: container } of found) await engine.destroy(container);
    await engine.removeVolumes({ ...owned, [labelKeys.workspace]: sandbox }, []);
    await engine.removeVolumes({ ...owned, [labelKeys.inputs]: sandbox }, []);
    await dataDir.sandboxes.release(sandbox);
  }
  await Layer.remove(dir.layer);
  await closeLost(dir, `it cannot be resumed: ${reason}`);
  await settleClosed(dir);
}

/** A workspace on disk whose runner is dead. What is still mounted by a container stays until that is gone. */
async function dropLayer(dir: RunDir, dryRun: boolean): Promise<boolean> {
  if (!(await Layer.isThere(dir.layer)) || (await WriterLock.isHeld(dir.journal))) return false;
  if (dryRun) return true;
  return Layer.remove(dir.layer).then(
    () => true,
    () => false,
  );
}

/** Whoever died after its last word has left its lock, and what it kept for the next one. */
async function settleClosed(dir: RunDir): Promise<void> {
  await WriterLock.sweepDead(dir.journal);
  await dir.dropKept();
}

/** Of sandboxes that waited for a run when their runner died. */
async function dropWarm(dataDir: DataDir, dryRun: boolean): Promise<readonly string[]> {
  const dropped: string[] = [];
  for (const warm of await dataDir.warm.list()) {
    if (await dataDir.isAlive(warm.instance)) continue;
    if (await Layer.isThere(warm.dir.layer)) dropped.push(warm.dir.id);
    if (dryRun) continue;
    await Layer.remove(warm.dir.layer).catch(() => undefined); // still mounted by a container: the next time
    await dataDir.warm.remove(warm);
  }
  return dropped;
}

/** A run that nobody writes to has no sandbox: those of dead runners are gone by now. */
async function dropLinks(dataDir: DataDir, except: ReadonlySet<string>): Promise<void> {
  for (const { sandbox } of await dataDir.sandboxes.list())
    if (!(await isTakenUp(dataDir, sandbox, except))) await dataDir.sandboxes.release(sandbox);
}

/** Whoever died while it tried overlays has left a mount there, and what is mounted cannot be swept. */
async function dropTrials(basesDir: string): Promise<void> {
  for (const name of await readdir(basesDir).catch(() => []))
    if (name.startsWith('.trial-')) await Layer.remove(join(basesDir, name, 'layer')).catch(() => undefined); // swept by another
}

async function dropBases(dataDir: DataDir): Promise<readonly string[]> {
  const bases = await BaseStore.open(dataDir.basesDir);
  await bases.releaseDead((run) => Layer.isThere(dataDir.runDir(run).layer));
  return bases.collect();
}

async function currentVolume(engine: Engine): Promise<string> {
  return supervisorVolume(readSupervisor((await engine.describe()).architecture));
}

/** Forgets the dead; returns how many live. */
async function settleInstances(dataDir: DataDir, dryRun: boolean): Promise<number> {
  let living = 0;
  for (const instance of await dataDir.listInstances()) {
    if (await dataDir.isAlive(instance)) living++;
    else if (!dryRun) await dataDir.forgetInstance(instance.id);
  }
  return living;
}

type Found =
  | { readonly kind: 'settled' | 'closed' | 'never_begun' }
  | { readonly kind: 'lost'; readonly openCalls: number };

async function judge(dir: RunDir, othersLive: boolean): Promise<Found> {
  try {
    if (await WriterLock.isHeld(dir.journal)) return { kind: 'settled' };
    const check = await checkJournal(dir.journal).catch((error: unknown) => {
      if (isRunnerError(error, 'invalid_request')) return undefined; // it is not there
      throw error;
    });
    if (check === undefined || check.wholeBytes === 0)
      return { kind: (await neverBegan(dir, othersLive)) ? 'never_begun' : 'settled' };
    if (check.findings.some((finding) => finding.kind !== 'torn')) return { kind: 'settled' };
    if (check.closed) return { kind: 'closed' };
    return { kind: 'lost', openCalls: check.openCalls.length };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { kind: 'settled' }; // somebody removed the run meanwhile
    throw error;
  }
}

/** Without a sandbox's ledger nothing was ever started. A runner that lives may just be about to begin it. */
async function neverBegan(dir: RunDir, othersLive: boolean): Promise<boolean> {
  const names = await readdir(dir.callsDir).catch(() => []);
  if (names.length > 0) return false;
  return !othersLive || Date.now() - (await stat(dir.path)).mtimeMs > beginsWithinMs;
}

/** From the directory to the first entry a runner takes a few milliseconds. */
const beginsWithinMs = 60_000;

/** The same for the journals of builds, which have no directory of their own. */
async function closeBuilds(dataDir: DataDir, dryRun: boolean): Promise<readonly string[]> {
  const closed: string[] = [];
  for (const { name, id, path } of await listBuildRecords(dataDir.path)) {
    if (await WriterLock.isHeld(path)) continue;
    const check = await checkJournal(path);
    if (check.closed || check.findings.some(({ kind }) => kind !== 'torn' && kind !== 'empty')) continue;
    if (!dryRun && check.wholeBytes === 0) await rm(path, { force: true });
    else if (!dryRun) await closeLost({ journal: path });
    if (!dryRun) await WriterLock.sweepDead(path);
    closed.push(`${name}.${id}`);
  }
  return closed;
}

/** Undefined when somebody was faster. Who came at the same moment may have let go again before it is looked for. */
async function reopen({
  journal,
}: Pick<RunDir, 'journal'>): Promise<Awaited<ReturnType<typeof Journal.reopen>> | undefined> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await Journal.reopen(journal);
    } catch (error) {
      if (isRunnerError(error, 'run_not_open') || (await WriterLock.isHeld(journal))) return undefined;
      if (!isRunnerError(error, 'journal_unavailable') || attempt === reopenAttempts) throw error;
      await sleep(Math.random() * 20);
    }
  }
}

const reopenAttempts = 5;

/** The number of calls that were left without an outcome; undefined when there was nothing to do. */
async function closeLost(
  dir: Pick<RunDir, 'journal'>,
  summary = 'the runner ended before the run was closed',
): Promise<number | undefined> {
  const reopened = await reopen(dir);
  if (reopened === undefined) return undefined;
  const { journal, recovery } = reopened;
  try {
    let outputBytes = 0;
    for await (const entry of readEntries(dir.journal))
      if (entry.type === 'call.ended') outputBytes += entry.data.output?.bytes ?? 0;
    await journal.append({
      type: 'run.closed',
      data: { outcome: 'lost', summary, ...journal.totals, outputBytes, ms: 0 },
    });
    return recovery.closedCalls.length;
  } finally {
    await journal.close();
  }
}
