/** A line without its newline, or that one was too long: it is told as soon as that is known, and skipped to its end. */
export type Line = { readonly kind: 'line'; readonly text: string } | { readonly kind: 'too_long' };

/**
 * Cuts bytes into lines. What is not whole yet is all it holds: at most `lineBytesMax`. A carriage return before the newline and
 * empty lines are dropped.
 */
export class LineSplitter {
  readonly #lineBytesMax: number;
  #parts: Buffer[] = [];
  #bytes = 0;
  #skipping = false;

  constructor(lineBytesMax: number) {
    this.#lineBytesMax = lineBytesMax;
  }

  *push(chunk: Buffer): Generator<Line, void> {
    let start = 0;
    for (let end = chunk.indexOf(newline); end >= 0; end = chunk.indexOf(newline, start)) {
      const line = this.#take(chunk.subarray(start, end));
      start = end + 1;
      this.#skipping = false;
      if (line !== undefined) yield line;
    }
    const rest = chunk.subarray(start);
    if (this.#skipping || rest.length === 0) return;
    if (this.#bytes + rest.length > this.#lineBytesMax) {
      this.#skipping = true;
      this.#forget();
      yield { kind: 'too_long' };
      return;
    }
    this.#parts.push(Buffer.from(rest)); // a copy: a small rest does not keep a large chunk alive
    this.#bytes += rest.length;
    if (this.#parts.length >= partsMax) this.#parts = [Buffer.concat(this.#parts)];
  }

  #take(last: Buffer): Line | undefined {
    if (this.#skipping) return undefined;
    const tooLong = this.#bytes + last.length > this.#lineBytesMax;
    const whole = tooLong ? undefined : Buffer.concat([...this.#parts, last]).toString('utf8');
    this.#forget();
    if (whole === undefined) return { kind: 'too_long' };
    const text = whole.endsWith('\r') ? whole.slice(0, -1) : whole;
    return text.trim() === '' ? undefined : { kind: 'line', text };
  }

  #forget(): void {
    this.#parts = [];
    this.#bytes = 0;
  }
}

const newline = 0x0a;

/** Bytes that come one at a time do not become as many buffers. */
const partsMax = 1024;
