import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { mkdir, open, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';

import { digestOf, digestPattern, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';

/**
 * Contents by their digest, as files `sha256/ab/cdef…` under one directory. Promises:
 *  - a blob is whole or absent: it is written beside and renamed into place, also with many writers at once;
 *  - what is read is what the digest says, or `internal` is thrown; nothing is changed once it is there;
 *  - what cannot be written (the disk is full) is `data_dir_unusable`, and nothing of it stays.
 * Small files are read and written synchronously, which takes a tenth of the time; others have their turn in between.
 */
export class BlobStore {
  readonly #directory: string;
  #sinceTurn = 0;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async open(directory: string): Promise<BlobStore> {
    await mkdir(path.join(directory, 'sha256'), { recursive: true, mode: 0o700 });
    await mkdir(path.join(directory, 'partial'), { recursive: true, mode: 0o700 });
    return new BlobStore(path.resolve(directory));
  }

  async put(bytes: Uint8Array): Promise<Digest> {
    await this.#giveTurn(bytes.length);
    const digest = digestOf(bytes);
    if (this.#isThere(digest)) return digest;
    const partial = this.#partial();
    try {
      writeFileSync(partial, bytes, { mode: 0o400, flag: 'wx' });
      this.#publish(partial, digest);
    } catch (error) {
      await drop(partial);
      throw this.#unwritten(error);
    }
    return digest;
  }

  /** Stores what comes, in constant memory. `limit_exceeded` past `bytesMax`, and then nothing is kept. */
  async putStream(
    chunks: AsyncIterable<Uint8Array>,
    bytesMax: number,
  ): Promise<{ readonly digest: Digest; readonly sizeBytes: number }> {
    const partial = this.#partial();
    const file = await this.#writing(() => open(partial, 'wx', 0o400));
    try {
      const hash = createHash('sha256');
      let sizeBytes = 0;
      for await (const chunk of chunks) {
        sizeBytes += chunk.length;
        if (sizeBytes > bytesMax) throw new RunnerError('limit_exceeded', `blob: more than ${bytesMax} bytes arrived`);
        hash.update(chunk);
        await this.#writing(() => file.writeFile(chunk));
      }
      const digest: Digest = `sha256:${hash.digest('hex')}`;
      await this.#writing(async () => this.#publish(partial, digest));
      return { digest, sizeBytes };
    } catch (error) {
      await drop(partial);
      throw error;
    } finally {
      await file.close();
    }
  }

  async has(digest: Digest): Promise<boolean> {
    await this.#giveTurn();
    return this.#isThere(digest);
  }

  async get(digest: Digest): Promise<Buffer> {
    const file = await this.#open(digest);
    try {
      if (fstatSync(file).size <= syncBytesMax) return verified(readFileSync(file), digest);
    } finally {
      closeSync(file);
    }
    const parts: Buffer[] = [];
    for await (const part of this.stream(digest)) parts.push(part);
    return Buffer.concat(parts);
  }

  /** The first bytes, unverified: enough to guess what kind of content it is, never to pass it on. */
  async head(digest: Digest, lengthBytes: number): Promise<Buffer> {
    const file = await this.#open(digest);
    try {
      const buffer = Buffer.alloc(lengthBytes);
      return buffer.subarray(0, readSync(file, buffer, 0, lengthBytes, 0));
    } finally {
      closeSync(file);
    }
  }

  /** In pieces; throws after the last one when they were not what the digest says. */
  async *stream(digest: Digest): AsyncGenerator<Buffer, void, undefined> {
    const hash = createHash('sha256');
    this.#isThere(digest);
    try {
      for await (const chunk of createReadStream(this.#pathOf(digest), { highWaterMark: 256 * 1024 })) {
        const bytes = chunk as Buffer;
        hash.update(bytes);
        yield bytes;
      }
    } catch (cause) {
      throw absent(digest, cause);
    }
    if (`sha256:${hash.digest('hex')}` !== digest) throw damaged(digest);
  }

  /** What nobody has asked for since then, by the 64 hex digits of its digest, with its bytes. */
  async unused(sinceMs: number): Promise<Map<string, number>> {
    const found = new Map<string, number>();
    const root = path.join(this.#directory, 'sha256');
    for (const first of await readdir(root)) {
      for (const rest of await readdir(path.join(root, first))) {
        const blob = statSync(path.join(root, first, rest), { throwIfNoEntry: false });
        if (blob !== undefined && blob.mtimeMs < sinceMs) found.set(first + rest, blob.size);
        await this.#giveTurn();
      }
    }
    return found;
  }

  /**
   * For what nobody names. False when somebody has asked for it since then after all: its time is looked at once it is out of its
   * place, so whoever asks later finds nothing and writes it anew.
   */
  async removeUnused(hex: string, sinceMs: number): Promise<boolean> {
    await this.#giveTurn();
    const file = this.#pathOf(`sha256:${hex}`);
    const grave = this.#partial();
    try {
      renameSync(file, grave);
      if (statSync(grave).mtimeMs < sinceMs) {
        unlinkSync(grave);
        return true;
      }
      renameSync(grave, file); // the same content, should somebody have written it anew meanwhile
      return false;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw error;
    }
  }

  /** That it was asked for is on record in its time, so that nobody removes it before it is named. */
  #isThere(digest: Digest): boolean {
    const file = this.#pathOf(digest);
    const now = Date.now();
    try {
      if (now - statSync(file).mtimeMs > freshMs) utimesSync(file, now / 1000, now / 1000);
      return true;
    } catch {
      return false; // gone, or nothing that can be kept there: whoever writes it is told
    }
  }

  #pathOf(digest: Digest): string {
    if (!digestPattern.test(digest)) throw new RunnerError('invalid_request', `blob: ${digest} is no sha256 digest`);
    const hex = digest.slice('sha256:'.length);
    return path.join(this.#directory, 'sha256', hex.slice(0, 2), hex.slice(2));
  }

  /** Only of our own writes: what `chunks` throws is not the disk's. */
  async #writing<Value>(work: () => Promise<Value>): Promise<Value> {
    try {
      return await work();
    } catch (error) {
      throw this.#unwritten(error);
    }
  }

  #unwritten(cause: unknown): RunnerError {
    const message = `blob: contents cannot be kept in ${this.#directory}: ${messageOf(cause)}; make room there, then try again`;
    return new RunnerError('data_dir_unusable', message, { cause });
  }

  #partial(): string {
    return path.join(this.#directory, 'partial', randomBytes(12).toString('hex'));
  }

  #publish(partial: string, digest: Digest): void {
    const target = this.#pathOf(digest);
    try {
      renameSync(partial, target);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      mkdirSync(path.dirname(target), { recursive: true, mode: 0o700 });
      renameSync(partial, target);
    }
  }

  async #open(digest: Digest): Promise<number> {
    await this.#giveTurn();
    this.#isThere(digest);
    try {
      return openSync(this.#pathOf(digest), 'r');
    } catch (cause) {
      throw absent(digest, cause);
    }
  }

  /** A file costs what 32 KiB of content cost. */
  async #giveTurn(bytes = 0): Promise<void> {
    this.#sinceTurn += 1 + bytes / 32_768;
    if (this.#sinceTurn < filesPerTurn) return;
    this.#sinceTurn = 0;
    await setImmediate();
  }
}

/** What stays is swept (`data-dir.ts`): why it was to go is what counts. */
async function drop(partial: string): Promise<void> {
  await rm(partial, { force: true }).catch(() => undefined);
}

/** Shorter than the time for which a content that nobody names stays. */
const freshMs = 3_600_000 / 2;
const syncBytesMax = 1024 * 1024;
const filesPerTurn = 64;

function verified(bytes: Buffer, digest: Digest): Buffer {
  if (digestOf(bytes) !== digest) throw damaged(digest);
  return bytes;
}

function absent(digest: Digest, cause: unknown): RunnerError {
  return new RunnerError('internal', `blob: ${digest} cannot be read; the store is incomplete`, { cause });
}

function damaged(digest: Digest): RunnerError {
  return new RunnerError('internal', `blob: the content of ${digest} has changed on disk; remove the store`);
}
