import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { LineSplitter, type Line } from './line-splitter.ts';

/**
 * JSON values, one a line, over two streams. Promises:
 *  - memory is bounded: nothing is read while what was sent waits for a reader, and a line has a longest length;
 *  - whatever arrives, `lines` goes on: a line that is too long is told as such.
 */
export class LineChannel {
  readonly #input: AsyncIterable<Buffer>;
  readonly #output: Writable;
  readonly #lineBytesMax: number;

  constructor(input: Readable, output: Writable, lineBytesMax: number) {
    this.#input = input;
    this.#output = output;
    this.#lineBytesMax = lineBytesMax;
  }

  /**
   * Ends where the input does, or breaks. Whoever takes a line and sends an answer is not given the next one before that is taken.
   */
  async *lines(): AsyncGenerator<Line, void> {
    const splitter = new LineSplitter(this.#lineBytesMax);
    for await (const chunk of untilItEnds(this.#input))
      for (const line of splitter.push(chunk)) {
        yield line;
        await this.#drained();
      }
  }

  /** Resolves when whoever reads has taken enough that more may come; what nobody reads any more is dropped. */
  async send(value: unknown): Promise<void> {
    if (!this.writable) return;
    this.#output.write(`${JSON.stringify(value)}\n`);
    await this.#drained();
  }

  /** More can be sent at once. */
  get writable(): boolean {
    return !this.#output.destroyed && !this.#output.writableEnded;
  }

  get congested(): boolean {
    return this.#output.writableNeedDrain;
  }

  async #drained(): Promise<void> {
    if (!this.writable || !this.congested) return;
    const settled = new AbortController();
    const any = { signal: settled.signal };
    await Promise.race([once(this.#output, 'drain', any), once(this.#output, 'close', any)]).catch(() => undefined);
    settled.abort();
  }
}

/** A client that is torn away has gone like any other. */
async function* untilItEnds(input: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void> {
  try {
    yield* input;
  } catch {
    // What came before the break has been given.
  }
}
