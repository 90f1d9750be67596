import { RunnerError } from '../errors.ts';
import type { StreamEvent } from './event-stream.ts';
import { followEvents } from './follow.ts';
import type { Requests } from './requests.ts';

export interface OutputOptions {
  /** Which view; offsets of one mean nothing in another. Default `merged`. */
  readonly stream?: 'merged' | 'stdout' | 'stderr';
  /** First byte; default 0. */
  readonly offset?: number;
  readonly signal?: AbortSignal | undefined;
  /** How long a call may take to start; default 10,000. */
  readonly waitMs?: number;
}

const startMs = 10_000;

/**
 * What a command prints, from a byte on until it has ended, at the pace of whoever reads. After a lost connection it goes on at
 * the byte where it was: none is lost, none comes twice. Read it once.
 */
export class OutputStream implements AsyncIterable<Uint8Array> {
  readonly #requests: Requests;
  readonly #path: string;
  readonly #signal: AbortSignal | undefined;
  #next: number;

  /** `path` is the one of the call's output. */
  constructor(
    requests: Requests,
    path: string,
    { stream = 'merged', offset = 0, signal, waitMs = startMs }: OutputOptions = {},
  ) {
    this.#requests = requests;
    this.#path = `${path}?stream=${stream}&waitMs=${waitMs}`;
    this.#signal = signal;
    this.#next = offset;
  }

  /** The byte after the last one that was given. */
  get nextOffset(): number {
    return this.#next;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void> {
    const events = followEvents(this.#requests, this.#path, {
      after: `${this.#next}`,
      signal: this.#signal,
      isEnd: ({ event }) => event === 'end',
    });
    for await (const event of events) {
      const bytes = this.#newOf(event);
      if (bytes.length > 0) yield bytes;
    }
  }

  /** Where the chunk does not begin where the last one ended, what would be wrong is said, never given. */
  #newOf({ id, data }: StreamEvent): Uint8Array {
    const chunk = Buffer.from(data, 'base64');
    const end = Number(id);
    const from = end - chunk.length;
    if (!Number.isSafeInteger(end) || from > this.#next || end < this.#next) {
      const message = `the service sent output up to ${JSON.stringify(id.slice(0, 40))} of ${this.#path}, where byte ${this.#next} comes next`;
      throw new RunnerError('internal', message);
    }
    const bytes = chunk.subarray(this.#next - from);
    this.#next = end;
    return bytes;
  }
}
