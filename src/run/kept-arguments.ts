import { digestOf, type Digest } from '../digest.ts';
import type { WholeArguments } from '../journal/bound-arguments.ts';
import { AnswerFile, readLines, type Place } from './answer-file.ts';

/** Of one run on disk, and of what waits for the disk. */
const keptBytesMax = 128 * 1024 ** 2;
const waitingBytesMax = 32 * 1024 ** 2;

/**
 * What was asked in calls, a line of canonical JSON each, for whoever makes them again. Nothing waits for it, and nothing depends
 * on it: what is too much, or cannot be written, is not there later, and its digest in the journal says so.
 */
export class KeptArguments {
  readonly #file: AnswerFile;
  #keptBytes: number;
  #waitingBytes = 0;
  readonly #waiting = new Set<Promise<unknown>>();

  private constructor(file: AnswerFile, keptBytes: number) {
    this.#file = file;
    this.#keptBytes = keptBytes;
  }

  static create(path: string): KeptArguments {
    return new KeptArguments(AnswerFile.create(path), 0);
  }

  /** Those of a runner that died; the lines that it wrote whole. */
  static async reopen(path: string): Promise<KeptArguments> {
    let bytes = 0;
    const file = await AnswerFile.reopen(path, (line, place) => {
      bytes = place + Buffer.byteLength(line) + 1;
    });
    return new KeptArguments(file, bytes);
  }

  keep({ json, bytes }: WholeArguments): void {
    if (this.#keptBytes + bytes > keptBytesMax || this.#waitingBytes + bytes > waitingBytesMax) return;
    this.#keptBytes += bytes;
    try {
      const written = this.#file.append(json);
      if (typeof written !== 'number') this.#wait(written, bytes);
    } catch {
      // The run goes on: it only cannot be made again.
    }
  }

  /** What is being written is written before. */
  async close(): Promise<void> {
    await Promise.all(this.#waiting);
    await this.#file.close();
  }

  #wait(written: Promise<Place>, bytes: number): void {
    this.#waitingBytes += bytes;
    const waiting = written
      .catch(() => undefined)
      .finally(() => {
        this.#waitingBytes -= bytes;
        this.#waiting.delete(waiting);
      });
    this.#waiting.add(waiting);
  }
}

/** Reads what `KeptArguments` has kept in a file: by digest, each checked against it. Absent is empty. */
export async function findKeptArguments(path: string): Promise<(digest: Digest) => Promise<string | undefined>> {
  const places = new Map<Digest, Place>();
  await readLines(path, (line, place) => places.set(digestOf(line), place));
  const file = AnswerFile.create(path);
  return async (digest) => {
    const place = places.get(digest);
    if (place === undefined) return undefined;
    const line = (await file.read(place)).toString('utf8');
    return digestOf(line) === digest ? line : undefined;
  };
}
