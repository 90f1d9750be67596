import { existsSync, lstatSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/**
 * A directory for one piece of work, gone when that has ended, however it did. What is small (`bytes` in all, about) lies in
 * memory where this machine has such a place: on a disk it takes ten times as long to make and to remove a few directories, and
 * nobody needs them a second later. Promises:
 *  - only this user can look into it;
 *  - memory that turns out to be full is the disk's turn, from the beginning;
 *  - what somebody has left in memory who died in the middle is removed by the next one.
 */
export async function inScratch<T>(
  bytes: number,
  work: (directory: string) => Promise<T>,
  memory: string = '/dev/shm',
): Promise<T> {
  const directory = bytes <= memoryBytesMax ? inMemory(memory) : undefined;
  if (directory !== undefined) {
    try {
      return await within(directory, work);
    } catch (error) {
      if (!full.includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
  return await within(mkdtempSync(path.join(tmpdir(), prefix)), work);
}

const memoryBytesMax = 4 * 1024 * 1024;
const prefix = 'glovebox-patch-';
const full = ['ENOSPC', 'EDQUOT', 'ENOMEM'];

async function within<T>(directory: string, work: (directory: string) => Promise<T>): Promise<T> {
  try {
    return await work(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Undefined where there is no such place. */
function inMemory(memory: string): string | undefined {
  try {
    // Pids mean something in their name space only, and there may be others who use the same place.
    const ours = `${prefix}${/\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? ''}-`;
    for (const name of readdirSync(memory)) if (name.startsWith(ours)) removeDead(memory, name, ours.length);
    return mkdtempSync(path.join(memory, `${ours}${process.pid}-`));
  } catch {
    return undefined;
  }
}

/** Everybody may make names there; what belongs to this user, nobody else can have put in another's place since. */
function removeDead(memory: string, name: string, pidAt: number): void {
  const pid = /^\d+(?=-)/.exec(name.slice(pidAt))?.[0];
  const directory = path.join(memory, name);
  const found = lstatSync(directory, { throwIfNoEntry: false });
  if (pid === undefined || existsSync(`/proc/${pid}`) || found?.uid !== process.geteuid?.()) return;
  rmSync(directory, { recursive: true, force: true });
}
