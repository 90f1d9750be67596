import { closeSync, openSync, readdirSync, rmSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isProcessAlive, thisProcess, type ProcessIdentity } from '../process-identity.ts';
import { RunnerError } from '../errors.ts';

/**
 * One writer per file. Each contender puts down a lock named after its process, then looks for others: whoever sees a
 * living one takes its own away and gives up. The later of two always sees the earlier, so there are never two; a lock
 * of a dead process is swept by the next one.
 */
export class WriterLock {
  readonly #file: string;

  private constructor(file: string) {
    this.#file = file;
  }

  static async acquire(path: string): Promise<WriterLock> {
    const self = thisProcess();
    const own = `${lockPrefix(path)}${nameOf(self)}`;
    const file = join(dirname(path), own);
    try {
      closeSync(openSync(file, 'wx', 0o600)); // at once: each trip through the thread pool costs an open more than this does
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'EEXIST') throw refusal(path, self.pid);
      const message = `cannot lock ${path}: ${(cause as Error).message}`;
      throw new RunnerError('journal_unavailable', message, { cause });
    }
    const lock = new WriterLock(file);
    try {
      sweep(path, own, self);
      return lock;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  /** Whether somebody who lives writes there now. */
  static async isHeld(path: string): Promise<boolean> {
    const prefix = lockPrefix(path);
    const holders = (await readdir(dirname(path))).filter((name) => name.startsWith(prefix));
    return holders.some((name) => {
      const holder = parseName(name.slice(prefix.length));
      return holder === undefined || isProcessAlive(holder);
    });
  }

  /** Takes away what dead writers have left. */
  static async sweepDead(path: string): Promise<void> {
    const prefix = lockPrefix(path);
    for (const name of await readdir(dirname(path))) {
      const holder = name.startsWith(prefix) ? parseName(name.slice(prefix.length)) : undefined;
      if (holder !== undefined && !isProcessAlive(holder)) await rm(join(dirname(path), name), { force: true });
    }
  }

  /** Twice is fine. */
  async release(): Promise<void> {
    await rm(this.#file, { force: true });
  }
}

function sweep(path: string, own: string, self: ProcessIdentity): void {
  const prefix = lockPrefix(path);
  for (const name of readdirSync(dirname(path))) {
    if (!name.startsWith(prefix) || name === own) continue;
    const holder = parseName(name.slice(prefix.length));
    if (holder === undefined || isProcessAlive(holder, self)) throw refusal(path, holder?.pid);
    rmSync(join(dirname(path), name), { force: true });
  }
}

function refusal(path: string, pid: number | undefined): RunnerError {
  const who = pid === undefined ? 'a lock that we cannot read' : `process ${pid}`;
  return new RunnerError('journal_unavailable', `${path} has a writer already: ${who}; one run has one writer`);
}

function lockPrefix(path: string): string {
  return `${basename(path)}.lock.`;
}

function nameOf(identity: ProcessIdentity): string {
  return [identity.pid, identity.startTicks, identity.pidNamespace, identity.bootId].join('.');
}

function parseName(name: string): ProcessIdentity | undefined {
  const [, pid, startTicks, pidNamespace, bootId] = /^(\d+)\.(\d+)\.(\d*)\.([\w-]+)$/.exec(name) ?? [];
  if (pid === undefined || startTicks === undefined || pidNamespace === undefined || bootId === undefined)
    return undefined;
  return { pid: Number(pid), startTicks, pidNamespace, bootId };
}
