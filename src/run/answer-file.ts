import { closeSync, fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { messageOf, RunnerError } from '../errors.ts';
import { joinBytes } from '../long-bytes.ts';

/** What an answer survives once it is kept: the end of this process, or of the machine's power. */
export type Durability = 'process' | 'power';

/** Where an answer lies in its file: its first byte. */
export type Place = number;

/**
 * The answers of one run, a JSON line each, only ever appended to. Promises:
 *  - a line that `append` has resolved for is in the kernel's hands (with `power`: on the disk), whole and in its place;
 *  - after one that failed none is taken any more;
 *  - memory does not grow with it.
 */
export class AnswerFile {
  readonly #path: string;
  readonly #onDisk: boolean;
  #fd: number | undefined;
  #at: number;
  #queue: Promise<unknown> | undefined;
  #broken: RunnerError | undefined;

  private constructor(path: string, at: number, durability: Durability) {
    this.#path = path;
    this.#onDisk = durability === 'power';
    this.#at = at;
  }

  /** Made with its first line. */
  static create(path: string, durability: Durability = 'process'): AnswerFile {
    return new AnswerFile(path, 0, durability);
  }

  /** Goes on after a crash; what was only half written was never said. */
  static async reopen(
    path: string,
    onLine: (line: string, place: Place) => void,
    { durability = 'process', lineBytesMax }: { readonly durability?: Durability; readonly lineBytesMax?: number } = {},
  ): Promise<AnswerFile> {
    const at = await readLines(path, onLine, lineBytesMax);
    const file = new AnswerFile(path, at, durability);
    ftruncateSync(file.#open(), at);
    return file;
  }

  /** Resolves with where it lies. One in pieces is written as it is made. */
  append(line: string | Iterable<Uint8Array>): Place | Promise<Place> {
    const bytes = typeof line === 'string' ? Buffer.from(`${line}\n`) : undefined;
    if (bytes !== undefined && this.#queue === undefined && this.#isAtOnce(bytes)) return this.#writeAtOnce(bytes);
    const queued = (this.#queue ?? Promise.resolve()).then(() => this.#write(bytes ?? (line as Iterable<Uint8Array>)));
    const settled = queued
      .catch(() => undefined)
      .finally(() => {
        if (this.#queue === settled) this.#queue = undefined;
      });
    this.#queue = settled;
    return queued;
  }

  /** Also of a file that was closed. */
  async read(place: Place): Promise<Buffer> {
    const file = await open(this.#path, 'r');
    try {
      return await readLine(file, place);
    } finally {
      await file.close();
    }
  }

  async close(): Promise<void> {
    await this.#queue;
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#broken ??= new RunnerError('run_not_open', `${this.#path} is closed: the run takes no more answers`);
  }

  #open(): number {
    this.#fd ??= openSync(this.#path, 'a+', 0o600);
    return this.#fd;
  }

  #isAtOnce(bytes: Buffer): boolean {
    return !this.#onDisk && bytes.length <= atOnceMax;
  }

  #writeAtOnce(bytes: Buffer): Place {
    if (this.#broken !== undefined) throw this.#broken;
    try {
      const fd = this.#open();
      for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done);
      return this.#advance(bytes.length);
    } catch (cause) {
      throw this.#breaks(cause);
    }
  }

  async #write(line: Buffer | Iterable<Uint8Array>): Promise<Place> {
    if (this.#broken !== undefined) throw this.#broken;
    if (Buffer.isBuffer(line) && this.#isAtOnce(line)) return this.#writeAtOnce(line);
    try {
      let length = 0;
      const file = await open(this.#path, 'a', 0o600);
      try {
        for (const piece of Buffer.isBuffer(line) ? [line] : terminated(line)) {
          await file.writeFile(piece);
          length += piece.length;
        }
        if (this.#onDisk) await file.datasync();
      } finally {
        await file.close();
      }
      return this.#advance(length);
    } catch (cause) {
      throw this.#breaks(cause);
    }
  }

  #advance(bytes: number): Place {
    const place = this.#at;
    this.#at += bytes;
    return place;
  }

  /** Half a line would be taken for the beginning of the next one. */
  #breaks(cause: unknown): RunnerError {
    this.#broken ??= new RunnerError(
      'data_dir_unusable',
      `the answer cannot be kept in ${this.#path}: ${messageOf(cause)}; make room there, and see in the journal how the call ended`,
      { cause },
    );
    try {
      if (this.#fd !== undefined && fstatSync(this.#fd).size > this.#at) ftruncateSync(this.#fd, this.#at);
    } catch {
      // Whoever opens it next cuts it off.
    }
    return this.#broken;
  }
}

/** A trip through the thread pool costs more than these bytes do. */
const atOnceMax = 65_536;
const chunkBytes = 16_384;
const chunkBytesMax = 1_048_576;

function* terminated(pieces: Iterable<Uint8Array>): Generator<Uint8Array> {
  yield* pieces;
  yield Buffer.from('\n');
}

/** The whole lines of a file, if it is there, or of each its first bytes; returns where the last of them ends. */
export async function readLines(
  path: string,
  onLine: (line: string, place: Place) => void,
  lineBytesMax = Infinity,
): Promise<Place> {
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (file === undefined) return 0;
  try {
    let [at, length, held] = [0, 0, [] as Buffer[]];
    const hold = (piece: Buffer): void => {
      if (length < lineBytesMax && piece.length > 0) held.push(piece.subarray(0, lineBytesMax - length));
      length += piece.length;
    };
    for await (const chunk of file.createReadStream({ autoClose: false }) as AsyncIterable<Buffer>) {
      let from = 0;
      for (let newline = chunk.indexOf(0x0a); newline >= 0; newline = chunk.indexOf(0x0a, from)) {
        hold(chunk.subarray(from, newline));
        from = newline + 1;
        onLine(Buffer.concat(held).toString('utf8'), at);
        at += length + 1;
        [length, held] = [0, []];
      }
      hold(chunk.subarray(from));
    }
    return at;
  } finally {
    await file.close();
  }
}

async function readLine(file: FileHandle, place: Place): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (let [at, most] = [place, chunkBytes]; ; most = Math.min(2 * most, chunkBytesMax)) {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(most), 0, most, at);
    const chunk = buffer.subarray(0, bytesRead);
    const newline = chunk.indexOf(0x0a);
    chunks.push(newline < 0 ? chunk : chunk.subarray(0, newline));
    if (newline >= 0 || bytesRead === 0) return joinBytes(chunks);
    at += bytesRead;
  }
}
