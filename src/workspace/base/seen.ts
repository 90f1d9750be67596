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
export function isSettled(changedMs: number, readMs: number): boolean {
  return changedMs < readMs - tickMs;
}

/** The coarsest clock of a file system in use. */
const tickMs = 2000;

/**
 * The same of many files in a row, as numbers: to compare fifty thousand of them takes a millisecond. A row of zeros is of
 * what is not there; one that is not to be believed is equal to none.
 */
export class SeenRows {
  readonly numbers: Float64Array;

  constructor(numbers: Float64Array) {
    this.numbers = numbers;
  }

  static of(count: number): SeenRows {
    return new SeenRows(new Float64Array(count * width));
  }

  get count(): number {
    return this.numbers.length / width;
  }

  copy(): SeenRows {
    return new SeenRows(this.numbers.slice());
  }

  put(row: number, stats: Stats): void {
    const { numbers } = this;
    const at = row * width;
    numbers[at] = stats.dev;
    numbers[at + 1] = stats.ino;
    numbers[at + 2] = stats.size;
    numbers[at + 3] = stats.mtimeMs;
    numbers[at + 4] = stats.ctimeMs;
    numbers[at + 5] = stats.mode;
  }

  take(row: number, from: SeenRows, fromRow: number): void {
    this.numbers.set(from.numbers.subarray(fromRow * width, (fromRow + 1) * width), row * width);
  }

  disbelieve(row: number): void {
    this.numbers[row * width] = Number.NaN;
  }

  isSame(row: number, other: SeenRows, otherRow: number): boolean {
    const [one, two] = [this.numbers, other.numbers];
    const [from, to] = [row * width, otherRow * width];
    for (let at = 0; at < width; at++) if (one[from + at] !== two[to + at]) return false;
    return true;
  }

  sizeOf(row: number): number {
    return this.#at(row, 2);
  }

  modeOf(row: number): number {
    return this.#at(row, 5);
  }

  seen(row: number): FileSeen {
    const [dev, ino, size, mtimeMs, ctimeMs, mode] = this.numbers.subarray(row * width, (row + 1) * width);
    const identity = `${dev}:${ino}:${size}:${mtimeMs}:${ctimeMs}:${mode}`;
    return { identity, changedMs: Math.max(mtimeMs ?? 0, ctimeMs ?? 0) };
  }

  #at(row: number, column: number): number {
    return this.numbers[row * width + column] ?? 0;
  }
}

const width = 6;
