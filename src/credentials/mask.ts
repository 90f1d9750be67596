import { Transform, type TransformCallback } from 'node:stream';

const maskByte = '*'.charCodeAt(0);

/**
 * Takes secrets out of a stream of bytes. Promises:
 *  - however the bytes are cut into pieces, no spelling passes whole, nor any part of one that was found;
 *  - everything else passes unchanged, and nothing gets longer or shorter: a length that was announced stays true;
 *  - what is held back is the beginning of a spelling, and shorter than one.
 */
export class Mask {
  readonly #spellings: readonly Buffer[];
  #held: Buffer = Buffer.alloc(0);
  /** So many bytes of what is held belong to a spelling that began before them. */
  #heldMasked = 0;

  constructor(spellings: readonly Buffer[]) {
    this.#spellings = spellings;
  }

  /** What may pass now, of all that came so far. */
  push(piece: Buffer): Buffer {
    const bytes = this.#held.length === 0 ? piece : Buffer.concat([this.#held, piece]);
    const found = this.#find(bytes);
    const end = bytes.length - this.#beginningAtEnd(bytes);
    const carried = found.filter(([from]) => from <= end).map(([, to]) => to - end);
    this.#held = Buffer.from(bytes.subarray(end));
    this.#heldMasked = Math.max(0, ...carried);
    return masked(bytes.subarray(0, end), found);
  }

  /** The rest: the beginning of something that did not come. */
  end(): Buffer {
    const rest = masked(this.#held, this.#find(this.#held));
    this.#held = Buffer.alloc(0);
    this.#heldMasked = 0;
    return rest;
  }

  /** Where spellings stand, and what is left of one that was found before. */
  #find(bytes: Buffer): readonly Span[] {
    const found: Span[] = this.#heldMasked === 0 ? [] : [[0, this.#heldMasked]];
    for (const spelling of this.#spellings)
      for (let at = bytes.indexOf(spelling); at >= 0; at = bytes.indexOf(spelling, at + 1)) {
        const last = found.at(-1);
        if (last !== undefined && at >= last[0] && at <= last[1]) last[1] = Math.max(last[1], at + spelling.length);
        else found.push([at, at + spelling.length]);
      }
    return found;
  }

  /** Length of the longest end of `bytes` with which a spelling begins. */
  #beginningAtEnd(bytes: Buffer): number {
    let longest = 0;
    for (const spelling of this.#spellings) {
      const first = spelling[0];
      for (let length = Math.min(spelling.length - 1, bytes.length); length > longest; length--) {
        const from = bytes.length - length;
        if (bytes[from] === first && bytes.compare(spelling, 0, length, from) === 0) longest = length;
      }
    }
    return longest;
  }
}

/** From, and up to but not with. */
type Span = [number, number];

/** A copy only where something is found. */
function masked(bytes: Buffer, spans: readonly Readonly<Span>[]): Buffer {
  if (spans.every(([from, to]) => from >= bytes.length || from >= to)) return bytes;
  const copy = Buffer.from(bytes);
  for (const [from, to] of spans) copy.fill(maskByte, Math.min(from, copy.length), Math.min(to, copy.length));
  return copy;
}

/** All of a short text, such as a header's value. */
export function maskText(text: string, spellings: readonly Buffer[]): string {
  const mask = new Mask(spellings);
  const bytes = Buffer.from(text, 'latin1');
  return Buffer.concat([mask.push(bytes), mask.end()]).toString('latin1');
}

/** As a stream; without spellings it passes everything on. */
export class MaskStream extends Transform {
  readonly #mask: Mask;

  constructor(spellings: readonly Buffer[]) {
    super();
    this.#mask = new Mask(spellings);
  }

  override _transform(piece: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const passing = this.#mask.push(piece);
    done(null, passing.length === 0 ? undefined : passing);
  }

  override _flush(done: TransformCallback): void {
    const rest = this.#mask.end();
    done(null, rest.length === 0 ? undefined : rest);
  }
}
