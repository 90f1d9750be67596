import { lineBytesMax } from './entry.ts';

export interface Line {
  /** From 1. */
  readonly number: number;
  /** Without the newline, one character a byte; empty when `tooLong`. */
  readonly text: string;
  readonly tooLong: boolean;
  /** Offset of the byte after its newline. */
  readonly endOffset: number;
}

/** Where lines are read from: a file, or a part of one. No bytes read: it ends there. */
export interface LineSource {
  read(buffer: Buffer, offset: number, length: number, position: number): Promise<{ readonly bytesRead: number }>;
}

const chunkBytes = 65_536;

/** Whole lines of a file that may still grow, in memory of one line at most. */
export class LineReader {
  readonly #file: LineSource;
  #number = 0;
  #readOffset = 0;
  #endOffset = 0;
  #buffered: Buffer = Buffer.alloc(0);
  #skipping = false;

  constructor(file: LineSource) {
    this.#file = file;
  }

  /** The next line that has its newline, or undefined where the file ends for now. */
  async next(): Promise<Line | undefined> {
    for (;;) {
      const newline = this.#buffered.indexOf(10);
      if (newline >= 0) return this.#take(newline);
      if (this.#buffered.length >= lineBytesMax) {
        this.#skipping = true;
        this.#buffered = Buffer.alloc(0);
      }
      const chunk = Buffer.alloc(chunkBytes);
      const { bytesRead } = await this.#file.read(chunk, 0, chunkBytes, this.#readOffset);
      if (bytesRead === 0) return undefined;
      this.#readOffset += bytesRead;
      this.#buffered = Buffer.concat([this.#buffered, chunk.subarray(0, bytesRead)]);
    }
  }

  /** Bytes after the last newline. */
  get restBytes(): number {
    return this.#readOffset - this.#endOffset;
  }

  get endOffset(): number {
    return this.#endOffset;
  }

  #take(newline: number): Line {
    const tooLong = this.#skipping || newline >= lineBytesMax;
    const text = tooLong ? '' : this.#buffered.toString('latin1', 0, newline);
    this.#endOffset = this.#readOffset - (this.#buffered.length - newline - 1);
    this.#buffered = this.#buffered.subarray(newline + 1);
    this.#skipping = false;
    this.#number += 1;
    return { number: this.#number, text, tooLong, endOffset: this.#endOffset };
  }
}
