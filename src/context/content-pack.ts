import { open, type FileHandle } from 'node:fs/promises';
import { digestOf, digestPattern, type Digest } from '../digest.ts';

/**
 * Contents that files of one run had, for whoever asks later who wrote a line: one file, appended to. Each content follows a line with
 * its digest and size. Promises:
 *  - keeping costs the caller nothing: it is written later, by another thread, and hashed by nobody but who reads it;
 *  - what is read is what its digest says, else it counts as not kept: whoever named it may have lied;
 *  - the file has a bound, and so has what waits to be written; what is more is not kept, and neither is anything after a failed write;
 *  - a runner that dies leaves at most half a content at the end, which is overwritten by the next.
 */
export class ContentPack {
  readonly #path: string;
  readonly #bytesMax: number;
  readonly #kept = new Set<Digest>();
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #bytes = 0;
  #file: Promise<FileHandle> | undefined;
  #writing: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failed = false;

  constructor(path: string, bytesMax = packBytesMax) {
    this.#path = path;
    this.#bytesMax = bytesMax;
  }

  /** The bytes are not to be changed any more. */
  keep(digest: Digest, bytes: Uint8Array): void {
    if (this.#failed || this.#kept.has(digest) || this.#kept.size >= contentsMax) return;
    const head = Buffer.from(`${digest} ${bytes.length}\n`, 'latin1');
    const all = head.length + bytes.length + 1;
    if (bytes.length > contentBytesMax || this.#bytes + all > this.#bytesMax) return;
    if (this.#waitingBytes + all > waitingBytesMax) return;
    this.#kept.add(digest);
    this.#waiting.push(head, bytes, newline);
    this.#bytes += all;
    this.#waitingBytes += all;
    if (this.#waitingBytes >= atOnceBytes) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), gatherMs).unref();
  }

  /** All that was given is in the file, or never will be. */
  async close(): Promise<void> {
    this.#flush();
    await this.#writing;
    const file = await this.#file?.catch(() => undefined);
    this.#failed = true;
    await file?.close().catch(() => undefined);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#waiting.length > 0) this.#writing ??= this.#write();
  }

  async #write(): Promise<void> {
    try {
      this.#file ??= this.#open();
      const file = await this.#file;
      while (this.#waiting.length > 0) {
        const [pieces, bytes] = [this.#waiting.splice(0), this.#waitingBytes];
        const { bytesWritten } = await file.writev(pieces);
        if (bytesWritten !== bytes) throw new Error('the disk is full'); // the torn end counts as not there
        this.#waitingBytes -= bytes;
      }
    } catch {
      this.#failed = true; // a run goes on without: blame says what was not kept
      this.#waiting = [];
    } finally {
      this.#writing = undefined;
    }
  }

  /** After what a runner before has left, without its torn end. */
  async #open(): Promise<FileHandle> {
    const file = await open(this.#path, 'a', 0o600);
    const { size } = await file.stat();
    if (size === 0) return file;
    const index = await indexOf(this.#path);
    await file.truncate(index.end);
    this.#bytes += index.end;
    for (const digest of index.places.keys()) this.#kept.add(digest);
    return file;
  }
}

/** Of one run. */
const packBytesMax = 64 * 1024 * 1024;
/** Larger ones have no lines that anybody tells apart. */
const contentBytesMax = 1024 * 1024;
/** Small ones are written together. */
const gatherMs = 20;
const atOnceBytes = 512 * 1024;
const waitingBytesMax = 16 * 1024 * 1024;
const contentsMax = 65_536;
const newline = Buffer.from('\n');

/** What a pack holds. */
export class PackReader {
  readonly #path: string;
  readonly #places: ReadonlyMap<Digest, Place>;

  private constructor(path: string, places: ReadonlyMap<Digest, Place>) {
    this.#path = path;
    this.#places = places;
  }

  /** Of a file that is not there: nothing. */
  static async open(path: string): Promise<PackReader> {
    const { places } = await indexOf(path).catch(() => ({ places: new Map<Digest, Place>() }));
    return new PackReader(path, places);
  }

  /** Undefined where it was not kept. */
  async get(digest: Digest): Promise<Buffer | undefined> {
    const place = this.#places.get(digest);
    if (place === undefined) return undefined;
    const file = await open(this.#path, 'r');
    try {
      const bytes = Buffer.alloc(place.bytes);
      const { bytesRead } = await file.read(bytes, 0, place.bytes, place.at);
      return bytesRead === place.bytes && digestOf(bytes) === digest ? bytes : undefined;
    } finally {
      await file.close();
    }
  }
}

interface Place {
  readonly at: number;
  readonly bytes: number;
}

/** Where each whole content lies, and where the last of them ends. */
async function indexOf(path: string): Promise<{ readonly places: Map<Digest, Place>; readonly end: number }> {
  const file = await open(path, 'r');
  try {
    const places = new Map<Digest, Place>();
    const { size } = await file.stat();
    const head = Buffer.alloc(headBytesMax);
    let end = 0;
    while (places.size < contentsMax) {
      const { bytesRead } = await file.read(head, 0, headBytesMax, end);
      const line = head.subarray(0, Math.max(0, head.subarray(0, bytesRead).indexOf(10))).toString('latin1');
      const [digest = '', length = ''] = line.split(' ');
      const at = end + line.length + 1;
      const bytes = /^\d{1,9}$/.test(length) ? Number(length) : -1;
      if (!digestPattern.test(digest) || bytes < 0 || at + bytes + 1 > size) break;
      places.set(digest as Digest, { at, bytes });
      end = at + bytes + 1;
    }
    return { places, end };
  } finally {
    await file.close();
  }
}

const headBytesMax = 96;
