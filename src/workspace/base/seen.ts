import type { Stats } from 'node:fs';

/**
 * What a file of the host looked like without being opened. Two equal ones, of which the first was settled when its
 * content was read, mean the same content: the kernel changes `ctime` with every write, and nobody can set it.
 */
export interface FileSeen {
  readonly identity: string;
  /** The later of its times, in milliseconds. */
  readonly changedMs: number;
}

export function fileSeen(stats: Stats): FileSeen {
  const { dev, ino, size, mtimeMs, ctimeMs, mode } = stats;
  const identity = `${dev}:${ino}:${size}:${mtimeMs}:${ctimeMs}:${mode}`;
  return { identity, changedMs: Math.max(mtimeMs, ctimeMs) };
}

/** A file that was written just before it was read may be written once more within the same tick of its clock. */
export function isSettled(seen: FileSeen, readMs: number): boolean {
  return seen.changedMs < readMs - tickMs;
}

/** The coarsest clock of a file system in use. */
const tickMs = 2000;
