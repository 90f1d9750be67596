import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import { digestOf, type Digest } from '../digest.ts';
import type { BaseFiles } from '../workspace/base/base-files.ts';
import { hostPath } from '../workspace/base/host-path.ts';
import { readMeta, StoredBase } from '../workspace/base/stored-base.ts';
import { BlobStore } from '../workspace/blobs.ts';
import { blameBytesMax } from './blame.ts';
import { PackReader } from './content-pack.ts';

/**
 * What files held, by digest, wherever it is kept: in what runs have kept of their files, among the contents of diffs and bases, in a
 * base on disk. Whatever is given was hashed here.
 */
export class KeptContents {
  readonly #blobs: BlobStore;
  readonly #dataDir: DataDir;
  readonly #packs: PackReader[] = [];
  readonly #bases: { readonly files: BaseFiles; readonly pathOf: ReadonlyMap<Digest, string> }[] = [];

  private constructor(dataDir: DataDir, blobs: BlobStore) {
    this.#dataDir = dataDir;
    this.#blobs = blobs;
  }

  static async open(dataDir: DataDir): Promise<KeptContents> {
    return new KeptContents(dataDir, await BlobStore.open(dataDir.blobsDir));
  }

  async addRun({ contents }: Pick<RunDir, 'contents'>): Promise<void> {
    this.#packs.push(await PackReader.open(contents));
  }

  /** The files of a tree, where a base of it is still kept. */
  async addBase(digest: Digest, files: ReadonlyMap<string, Digest>): Promise<void> {
    for (const key of await readdir(this.#dataDir.basesDir).catch(() => [])) {
      const meta = readMeta(this.#dataDir.basesDir, key);
      if (meta?.digest !== digest) continue;
      const base = new StoredBase(join(this.#dataDir.basesDir, key), meta);
      const pathOf = new Map([...files].map(([path, of]) => [of, path]));
      this.#bases.push({ files: base.files, pathOf });
      return;
    }
  }

  /** Undefined where it is not kept. Of a large one only as much as tells that it is large. */
  async get(digest: Digest): Promise<Buffer | undefined> {
    for (const pack of this.#packs) {
      const found = await pack.get(digest);
      if (found !== undefined) return found;
    }
    return (await this.#inBases(digest)) ?? (await this.#inBlobs(digest));
  }

  async #inBases(digest: Digest): Promise<Buffer | undefined> {
    for (const { files, pathOf } of this.#bases) {
      const path = pathOf.get(digest);
      if (path === undefined) continue;
      const found = await upTo(createReadStream(hostPath(files.directoryOf(path), path))).catch(() => undefined);
      if (found !== undefined && (found.length > blameBytesMax || digestOf(found) === digest)) return found;
    }
    return undefined;
  }

  async #inBlobs(digest: Digest): Promise<Buffer | undefined> {
    if (!(await this.#blobs.has(digest))) return undefined;
    return upTo(this.#blobs.stream(digest)).catch(() => undefined);
  }
}

/** One byte more than a file has whose lines are told apart is enough. */
async function upTo(chunks: AsyncIterable<unknown>): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    if (!Buffer.isBuffer(chunk)) continue;
    parts.push(chunk);
    bytes += chunk.length;
    if (bytes > blameBytesMax) break;
  }
  return Buffer.concat(parts);
}
