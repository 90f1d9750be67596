import type { FileHandle } from 'node:fs/promises';

/** Reads of one place after the other: of small ones, many cost one trip to the disk. */
export class ReadAhead {
  readonly #file: FileHandle;
  #from = 0;
  #window: Buffer = Buffer.alloc(0);

  constructor(file: FileHandle) {
    this.#file = file;
  }

  async size(): Promise<number> {
    return (await this.#file.stat()).size;
  }

  /** At most `readBytesMax`; less where the file ends. To be used before the next read. */
  async read(offset: number, length: number): Promise<Buffer> {
    const isHere = offset >= this.#from && offset + length <= this.#from + this.#window.length;
    if (!isHere) await this.#fill(offset);
    const at = offset - this.#from;
    return this.#window.subarray(at, at + Math.min(length, readBytesMax));
  }

  async #fill(offset: number): Promise<void> {
    const window = Buffer.allocUnsafe(readBytesMax);
    let filled = 0;
    while (filled < window.length) {
      const { bytesRead } = await this.#file.read(window, filled, window.length - filled, offset + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    [this.#from, this.#window] = [offset, window.subarray(0, filled)];
  }
}

export const readBytesMax = 1024 * 1024;
