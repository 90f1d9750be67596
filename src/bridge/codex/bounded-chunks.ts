/** A piece of output with its place in what the process has said. */
export interface Chunk {
  readonly seq: number;
  readonly bytes: Buffer;
}

/** The last output of a process, for a client that reads it again: at most `bytesMax`, older pieces go first. */
export class BoundedChunks {
  readonly #bytesMax: number;
  #chunks: Chunk[] = [];
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  add(chunk: Chunk): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.bytes.length;
    let gone = 0;
    while (this.#bytes > this.#bytesMax && gone < this.#chunks.length - 1) {
      this.#bytes -= this.#chunks[gone]?.bytes.length ?? 0;
      gone += 1;
    }
    if (gone > 0) this.#chunks = this.#chunks.slice(gone);
  }

  /** Those after `seq`, whole, as many as fit into `maxBytes` but at least one. */
  after(seq: number, maxBytes: number): readonly Chunk[] {
    const found: Chunk[] = [];
    let bytes = 0;
    for (const chunk of this.#chunks) {
      if (chunk.seq <= seq) continue;
      bytes += chunk.bytes.length;
      if (found.length > 0 && bytes > maxBytes) break;
      found.push(chunk);
    }
    return found;
  }
}
