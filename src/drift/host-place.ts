import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, open, opendir, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Digest } from '../digest.ts';
import type { Listed, Place } from './place.ts';

const depthMaxByDefault = 64;

/** This machine. What this user may not read is not there. */
export const hostPlace: Place = {
  async read(path, bytesMax) {
    return unlessMissing(async () => {
      const file = await open(path, 'r');
      try {
        const { size } = await file.stat();
        if (size > bytesMax) return undefined;
        return await file.readFile('utf8');
      } finally {
        await file.close();
      }
    });
  },
  digest: async (path) => unlessMissing(async () => ((await stat(path)).isFile() ? digestOfFile(path) : undefined)),
  async list(root, { entriesMax, depthMax = depthMaxByDefault, digests = false }) {
    const found: Listed[] = [];
    await listInto(found, root, depthMax, entriesMax, digests);
    return found;
  },
};

async function listInto(found: Listed[], at: string, depth: number, max: number, digests: boolean): Promise<void> {
  const directory = await unlessMissing(() => opendir(at));
  if (directory === undefined || depth < 1) return;
  for await (const { name } of directory) {
    if (found.length >= max) return;
    const entry = await unlessMissing(() => entryOf(join(at, name), digests));
    if (entry === undefined) continue;
    found.push(entry);
    if (entry.type === 'directory') await listInto(found, entry.path, depth - 1, max, digests);
  }
}

async function entryOf(path: string, digests: boolean): Promise<Listed> {
  const status = await lstat(path);
  const { uid, gid } = status;
  const common = { path, mode: status.mode & 0o7777, uid, gid };
  if (status.isSymbolicLink()) return { ...common, type: 'symlink', target: await readlink(path) };
  if (status.isDirectory()) return { ...common, type: 'directory' };
  if (!status.isFile()) return { ...common, type: status.isFIFO() ? 'fifo' : status.isSocket() ? 'socket' : 'device' };
  const digest = digests ? await unlessMissing(() => digestOfFile(path)) : undefined;
  return { ...common, type: 'file', ...(digest === undefined ? {} : { digest }) };
}

async function digestOfFile(path: string): Promise<Digest> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return `sha256:${hash.digest('hex')}`;
}

async function unlessMissing<T>(look: () => Promise<T>): Promise<T | undefined> {
  try {
    return await look();
  } catch {
    return undefined;
  }
}
