import { createPublicKey, type KeyObject } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DataDir } from '../data-dir/data-dir.ts';
import { archiveOf } from './archive.ts';
import { checkBundle, type BundleCheck } from './check.ts';
import { makeClosedRun, replayIt, verifyIt, type ClosedRun } from './closed-run.fixture.ts';
import { describeRun, sealBundle } from './export.ts';
import { openSigningKey, type SigningKey } from './signing-key.ts';

/** A data directory with a verified run, its key, and bundles of it as bytes. */
export class BundleBench {
  readonly root: string;
  readonly dataDir: DataDir;
  readonly run: ClosedRun;
  readonly key: SigningKey;
  readonly publicKey: KeyObject;

  private constructor(root: string, dataDir: DataDir, run: ClosedRun, key: SigningKey) {
    this.root = root;
    this.dataDir = dataDir;
    this.run = run;
    this.key = key;
    this.publicKey = createPublicKey(key.publicPem);
  }

  static async create({ verified = true }: { readonly verified?: boolean } = {}): Promise<BundleBench> {
    const root = await mkdtemp(join(tmpdir(), 'glovebox-bundle-'));
    const dataDir = await DataDir.open(join(root, 'data'));
    const run = await makeClosedRun(dataDir);
    if (verified) {
      await verifyIt(dataDir, run);
      await replayIt(run);
    }
    return new BundleBench(root, dataDir, run, await openSigningKey(dataDir.path));
  }

  remove(): Promise<void> {
    return rm(this.root, { recursive: true, force: true });
  }

  async bundle(dataDir = this.dataDir): Promise<Buffer> {
    return joined(sealBundle(await describeRun(dataDir, this.run.dir.id), this.key).chunks());
  }

  /** As a file, whatever it is. */
  async check(bytes: Uint8Array, keys: readonly KeyObject[] = [this.publicKey]): Promise<BundleCheck> {
    return checkBundle(await this.file(bytes), keys);
  }

  async file(bytes: Uint8Array, name = 'bundle.tar'): Promise<string> {
    const path = join(this.root, name);
    await writeFile(path, bytes);
    return path;
  }
}

/** The files of an archive, read without looking at anything but names and sizes. */
export function unpack(archive: Buffer): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  for (let at = 0; archive[at] !== 0;) {
    const bytes = Number.parseInt(archive.toString('latin1', at + 124, at + 135), 8);
    files.set(archive.toString('latin1', at, archive.indexOf(0, at)), archive.subarray(at + 512, at + 512 + bytes));
    at += 512 + Math.ceil(bytes / 512) * 512;
  }
  return files;
}

export function pack(files: Iterable<readonly [string, Uint8Array]>): Promise<Buffer> {
  return joined(
    archiveOf([...files].map(([path, content]) => ({ path, bytes: content.length, chunks: () => [content] }))),
  );
}

async function joined(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of chunks) pieces.push(piece);
  return Buffer.concat(pieces);
}
