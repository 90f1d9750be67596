import {
  close,
  closeSync,
  ftruncateSync,
  openSync,
  read,
  readFileSync,
  rmSync,
  statSync,
  write,
  writeSync,
  writev,
} from 'node:fs';
import { join } from 'node:path';
import { Segments, type SegmentStream } from './segments.ts';

/**
 * The files of one output: `<n>.out` has the bytes of the merged view, `<n>.idx` one entry of 16 bytes for each piece
 * that arrived, `<n>.aux` what came on fd 3. An entry is { u32 length, u8 stream, u8[3] 0, f64 tMs }; the lengths of
 * all entries, dropped bytes included, add up to the offset on the wire that is safe here.
 */
export interface OutputEntry {
  readonly stream: EntryStream;
  readonly length: number;
  readonly tMs: number;
}

export type EntryStream = SegmentStream | 'aux' | 'dropped';

const entryBytes = 16;
const streamNumbers = { dropped: 0, stdout: 1, stderr: 2, aux: 3, mixed: 4 } as const;
const streamNames: readonly EntryStream[] = ['dropped', 'stdout', 'stderr', 'aux', 'mixed'];

export class OutputFile {
  readonly #base: string;
  readonly #out: number;
  readonly #idx: number;
  #aux: number | undefined;
  #outAt: number;
  #idxAt: number;
  #auxAt: number;
  #open = true;

  private constructor(base: string, at: { out: number; idx: number; aux: number }) {
    this.#base = base;
    const flags = at.idx === 0 ? 'w+' : 'r+';
    this.#out = openSync(`${base}.out`, flags, 0o600);
    this.#idx = openSync(`${base}.idx`, flags, 0o600);
    this.#outAt = at.out;
    this.#idxAt = at.idx;
    this.#auxAt = at.aux;
  }

  static create(directory: string, number: number): OutputFile {
    const base = join(directory, String(number));
    rmSync(`${base}.aux`, { force: true });
    return new OutputFile(base, { out: 0, idx: 0, aux: 0 });
  }

  /** Goes on after a crash, cut back to what data and index agree on. */
  static reopen(directory: string, number: number, held: HeldOutput): OutputFile {
    const at = { out: held.outBytes, idx: held.entries * entryBytes, aux: held.aux.length };
    const file = new OutputFile(join(directory, String(number)), at);
    ftruncateSync(file.#out, at.out);
    ftruncateSync(file.#idx, at.idx);
    return file;
  }

  /** Resolves once all of it has been handed to the kernel. */
  async append(out: readonly Uint8Array[], aux: Uint8Array, entries: readonly OutputEntry[]): Promise<void> {
    const index = encodeEntries(entries);
    if (aux.length > 0) this.#aux ??= openSync(`${this.#base}.aux`, this.#auxAt === 0 ? 'w' : 'r+', 0o600);
    const writes = [
      index.length <= atOnceMax
        ? writeAtOnce(this.#idx, index, this.#idxAt)
        : writeWhole(this.#idx, index, this.#idxAt),
    ];
    let outBytes = 0;
    for (const bytes of out) outBytes += bytes.length;
    if (outBytes > 0) writes.push(writeAll(this.#out, out, this.#outAt));
    if (this.#aux !== undefined && aux.length > 0) writes.push(writeWhole(this.#aux, aux, this.#auxAt));
    this.#outAt += outBytes;
    this.#idxAt += index.length;
    this.#auxAt += aux.length;
    await Promise.all(writes);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    for (const fd of [this.#out, this.#idx, this.#aux]) if (fd !== undefined) close(fd);
  }
}

/** Through a descriptor of its own: works whether or not somebody still writes. */
export async function readOutput(
  directory: string,
  number: number,
  offset: number,
  lengthBytes: number,
): Promise<Buffer> {
  const fd = openSync(join(directory, `${number}.out`), 'r');
  try {
    return await readRange(fd, offset, lengthBytes);
  } finally {
    closeSync(fd);
  }
}

/** What is on disk, changing nothing; `undefined` when there is nothing. */
export function findHeld(directory: string, number: number): HeldOutput | undefined {
  const base = join(directory, String(number));
  const idx = readIfThere(`${base}.idx`);
  if (idx === undefined) return undefined;
  const outSize = statSync(`${base}.out`, { throwIfNoEntry: false })?.size ?? 0;
  return readEntries(idx, outSize, readIfThere(`${base}.aux`) ?? Buffer.alloc(0));
}

export interface HeldOutput {
  readonly segments: Segments;
  readonly entries: number;
  readonly outBytes: number;
  readonly aux: Buffer;
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
  /** On the wire: all that need not be sent again. */
  readonly wireBytes: number;
}

/** Entries are believed as long as the bytes they speak of are there. */
function readEntries(idx: Buffer, outSize: number, aux: Buffer): HeldOutput {
  const segments = new Segments();
  const totals = { stdout: 0, stderr: 0, mixed: 0, aux: 0, dropped: 0 };
  let entries = 0;
  let outBytes = 0;
  for (let at = 0; at + entryBytes <= idx.length; at += entryBytes, entries++) {
    const length = idx.readUInt32LE(at);
    const stream = streamNames[idx.readUInt8(at + 4)];
    if (stream === undefined || length === 0) break;
    if (stream === 'aux' && totals.aux + length > aux.length) break;
    if (stream !== 'aux' && stream !== 'dropped') {
      if (outBytes + length > outSize) break;
      outBytes += length;
      segments.push(stream, length, idx.readDoubleLE(at + 8));
    }
    totals[stream] += length;
  }
  return {
    segments,
    entries,
    outBytes,
    aux: Buffer.from(aux.subarray(0, totals.aux)),
    stdoutBytes: totals.stdout,
    stderrBytes: totals.stderr,
    wireBytes: outBytes + totals.aux + totals.dropped,
  };
}

function encodeEntries(entries: readonly OutputEntry[]): Buffer {
  const index = Buffer.alloc(entries.length * entryBytes);
  let at = 0;
  for (const entry of entries) {
    index.writeUInt32LE(entry.length, at);
    index[at + 4] = streamNumbers[entry.stream];
    index.writeDoubleLE(entry.tMs, at + 8);
    at += entryBytes;
  }
  return index;
}

function readIfThere(path: string): Buffer | undefined {
  return statSync(path, { throwIfNoEntry: false }) === undefined ? undefined : readFileSync(path);
}

const vectorsMax = 512;
const atOnceMax = 4_096;

async function writeAll(fd: number, buffers: readonly Uint8Array[], position: number): Promise<void> {
  let at = position;
  for (let n = 0; n < buffers.length; n += vectorsMax) {
    const some = buffers.slice(n, n + vectorsMax);
    const first = some[0];
    if (some.length === 1 && first !== undefined) {
      await writeWhole(fd, first, at);
      at += first.length;
      continue;
    }
    const length = some.reduce((sum, bytes) => sum + bytes.length, 0);
    const written = await new Promise<number>((resolve, reject) => {
      writev(fd, some, at, (error, bytes) => (error === null ? resolve(bytes) : reject(error)));
    });
    if (written < length) await writeWhole(fd, Buffer.concat(some).subarray(written), at + written);
    at += length;
  }
}

/** A trip through the thread pool costs more than a few bytes do. */
async function writeAtOnce(fd: number, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, bytes.length - done, position + done);
}

async function writeWhole(fd: number, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    done += await new Promise<number>((resolve, reject) => {
      write(fd, bytes, done, bytes.length - done, position + done, (error, count) =>
        error === null ? resolve(count) : reject(error),
      );
    });
  }
}

async function readRange(fd: number, offset: number, lengthBytes: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(lengthBytes);
  let done = 0;
  while (done < lengthBytes) {
    const count = await new Promise<number>((resolve, reject) => {
      read(fd, buffer, done, lengthBytes - done, offset + done, (error, bytes) =>
        error === null ? resolve(bytes) : reject(error),
      );
    });
    if (count === 0) break;
    done += count;
  }
  return buffer.subarray(0, done);
}
