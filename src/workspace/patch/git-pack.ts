import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { createDeflate } from 'node:zlib';

import { RunnerError } from '../../errors.ts';

/** A blob or a tree to be. `bytes` of a large content come in pieces, `sizeBytes` in all. */
export interface GitObject {
  readonly type: 'blob' | 'tree';
  readonly sizeBytes: number;
  readonly bytes: Uint8Array | AsyncIterable<Uint8Array>;
}

/**
 * A repository of objects and nothing else, for git to compare trees in. It is written here because git's own ways of
 * taking objects in cost a process each, a flush to the disk, or settings of somebody. Promises:
 *  - objects are called what git calls them; two that it could not tell apart (one SHA-1, which whoever wrote both can
 *    arrange) are refused instead of taken for one another;
 *  - memory holds one small object, or a piece of a large one.
 */
export class GitObjects {
  /** For whoever starts git. */
  readonly environment: Readonly<Record<string, string>>;
  readonly #directory: string;
  readonly #contents = new Map<string, string>();
  #packs = 0;

  private constructor(directory: string) {
    this.#directory = directory;
    this.environment = { GIT_DIR: directory, GIT_OBJECT_DIRECTORY: directory };
  }

  /** In an empty directory: as much of a repository as git asks for; `git init` would copy templates and settings into it. */
  static create(directory: string): GitObjects {
    for (const name of ['pack', 'refs']) mkdirSync(path.join(directory, name));
    writeFileSync(path.join(directory, 'HEAD'), 'ref: refs/heads/none\n');
    return new GitObjects(directory);
  }

  /** One pack of so many objects; returns their ids, in hex, in the same order. Equal ones may come twice in all. */
  async add(count: number, objects: Iterable<GitObject> | AsyncIterable<GitObject>): Promise<readonly string[]> {
    const name = path.join(this.#directory, 'pack', `pack-${this.#packs++}`);
    const pack = new PackFile(`${name}.pack`, count);
    try {
      const ids: string[] = [];
      for await (const object of objects) {
        const { id, contentDigest } = await pack.append(object);
        this.#refuseTwins(id, contentDigest);
        ids.push(id);
      }
      writeFileSync(`${name}.idx`, pack.finish(), { mode: 0o600 });
      return ids;
    } finally {
      pack.close();
    }
  }

  #refuseTwins(id: string, contentDigest: string): void {
    const known = this.#contents.get(id);
    this.#contents.set(id, contentDigest);
    if (known === undefined || known === contentDigest) return;
    throw new RunnerError(
      'export_refused',
      `patch: two contents are made to have one SHA-1 (${id}), so git cannot tell them apart; discard the changes`,
    );
  }
}

const types = { tree: 2, blob: 3 } as const;
const chunkBytes = 1024 * 1024;
/** Of a pack with the first form of index. */
const packBytesMax = 2 ** 32 - 1;

/** gitformat-pack(5): version 2, objects without deltas, not compressed. The index is of version 1. */
class PackFile {
  readonly #file: number;
  readonly #hash = createHash('sha1');
  readonly #entries: { readonly id: Buffer; readonly offset: number }[] = [];
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #offset = 0;

  constructor(file: string, count: number) {
    this.#file = openSync(file, 'wx', 0o600);
    const header = Buffer.from('PACK\0\0\0\x02\0\0\0\0', 'latin1');
    header.writeUInt32BE(count, 8);
    this.#write(header);
  }

  async append({ type, sizeBytes, bytes }: GitObject): Promise<{ id: string; contentDigest: string }> {
    const offset = this.#offset;
    const id = createHash('sha1').update(`${type} ${sizeBytes}\0`);
    const content = createHash('sha256').update(`${type} ${sizeBytes}\0`);
    const seen = (piece: Uint8Array): void => {
      id.update(piece);
      content.update(piece);
    };
    this.#write(headerOf(types[type], sizeBytes));
    if (bytes instanceof Uint8Array) {
      seen(bytes);
      for (const part of stored(bytes)) this.#write(part);
    } else {
      const source = Readable.from(passing(bytes, seen), { objectMode: false });
      const deflated = createDeflate({ level: 0 });
      source.on('error', (error) => deflated.destroy(error)).pipe(deflated);
      for await (const piece of deflated) this.#write(piece as Buffer);
    }
    const name = id.digest();
    this.#entries.push({ id: name, offset });
    return { id: name.toString('hex'), contentDigest: content.digest('base64') };
  }

  /** Returns the index. */
  finish(): Buffer {
    const checksum = this.#hash.copy().digest();
    this.#write(checksum);
    this.#flush();
    if (this.#offset > packBytesMax) throw new RunnerError('limit_exceeded', 'patch: the changes have more than 4 GiB');
    const entries = this.#entries.toSorted((a, b) => Buffer.compare(a.id, b.id));
    const index = Buffer.alloc(256 * 4 + entries.length * 24 + 20);
    for (const [at, { id, offset }] of entries.entries()) {
      index.writeUInt32BE(offset, 1024 + at * 24);
      id.copy(index, 1024 + at * 24 + 4);
    }
    for (let first = 0, upTo = 0; first < 256; first++) {
      while ((entries[upTo]?.id[0] ?? 256) <= first) upTo++;
      index.writeUInt32BE(upTo, first * 4);
    }
    checksum.copy(index, index.length - 20);
    return Buffer.concat([index, createHash('sha1').update(index).digest()]);
  }

  close(): void {
    closeSync(this.#file);
  }

  #write(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
    this.#offset += bytes.length;
    if (this.#pendingBytes >= chunkBytes) this.#flush();
  }

  #flush(): void {
    writeFileSync(this.#file, Buffer.concat(this.#pending, this.#pendingBytes));
    this.#pending = [];
    this.#pendingBytes = 0;
  }
}

/** As zlib has it (RFC 1950, 1951), in blocks that are not compressed: to set up its compressor takes longer than this. */
function* stored(bytes: Uint8Array): Generator<Uint8Array, void, undefined> {
  yield Buffer.from([0x78, 0x01]);
  for (let at = 0; at === 0 || at < bytes.length; at += blockBytesMax) {
    const block = bytes.subarray(at, at + blockBytesMax);
    const header = Buffer.from([at + blockBytesMax >= bytes.length ? 1 : 0, 0, 0, 0, 0]);
    header.writeUInt16LE(block.length, 1);
    header.writeUInt16LE(block.length ^ 0xffff, 3);
    yield header;
    yield block;
  }
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32BE(adler32(bytes));
  yield checksum;
}

function adler32(bytes: Uint8Array): number {
  let [a, b] = [1, 0];
  for (let at = 0; at < bytes.length;) {
    // So many sums stay below 2^32.
    for (const end = Math.min(at + 5552, bytes.length); at < end; at++) {
      a += bytes[at] ?? 0;
      b += a;
    }
    a %= 65_521;
    b %= 65_521;
  }
  return b * 65_536 + a;
}

const blockBytesMax = 65_535;

async function* passing(
  bytes: AsyncIterable<Uint8Array>,
  seen: (piece: Uint8Array) => void,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of bytes) {
    seen(piece);
    yield piece;
  }
}

/** Type and size: four bits of it, then seven at a time, the lowest first. */
function headerOf(type: number, sizeBytes: number): Buffer {
  const bytes: number[] = [];
  let byte = (type << 4) | (sizeBytes % 16);
  for (let rest = Math.floor(sizeBytes / 16); rest > 0; rest = Math.floor(rest / 128)) {
    bytes.push(byte | 0x80);
    byte = rest % 128;
  }
  return Buffer.from([...bytes, byte]);
}
