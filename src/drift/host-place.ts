import { createHash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { lstat, open, opendir, readFile, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { digestOf, type Digest } from '../digest.ts';
import type { Listed, Place } from './place.ts';

const depthMaxByDefault = 64;
/** Of a file, and of all below one directory: machines have gigabytes in /opt. */
const digestedBytesMax = { one: 4 * 1024 * 1024, all: 64 * 1024 * 1024 };

/** This machine. What this user may not read is not there, and of a list with digests what would take too long to read. */
export const hostPlace: Place = {
  async read(path, bytesMax) {
    return unlessMissing(async () => {
      // What leads to a pipe or a device, in a directory that is anybody's, has nobody wait or read without end.
      const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
      try {
        const status = await file.stat();
        if (!status.isFile() || status.size > bytesMax) return undefined;
        const { buffer, bytesRead } = await file.read(Buffer.alloc(status.size), 0, status.size, 0);
        return buffer.toString('utf8', 0, bytesRead);
      } finally {
        await file.close();
      }
    });
  },
  digest: async (path) => unlessMissing(async () => ((await stat(path)).isFile() ? digestOfFile(path) : undefined)),
  async list(root, { entriesMax, depthMax = depthMaxByDefault, digests = false }) {
    const listing: Listing = { found: [], entriesMax, digests, leftBytes: digestedBytesMax.all };
    await listInto(listing, root, depthMax);
    return listing.found;
  },
};

interface Listing {
  readonly found: Listed[];
  readonly entriesMax: number;
  readonly digests: boolean;
  /** To be read for digests. */
  leftBytes: number;
}

async function listInto(listing: Listing, at: string, depth: number): Promise<void> {
  const directory = depth < 1 ? undefined : await unlessMissing(() => opendir(at));
  if (directory === undefined) return;
  for await (const { name } of directory) {
    if (listing.found.length >= listing.entriesMax) return;
    const entry = await unlessMissing(() => entryOf(join(at, name), listing));
    if (entry === undefined) continue;
    listing.found.push(entry);
    if (entry.type === 'directory') await listInto(listing, entry.path, depth - 1);
  }
}

/** Undefined for what is too large. */
async function entryOf(path: string, listing: Listing): Promise<Listed | undefined> {
  const status = await lstat(path);
  const { uid, gid } = status;
  const common = { path, mode: status.mode & 0o7777, uid, gid };
  if (status.isSymbolicLink()) return { ...common, type: 'symlink', target: await readlink(path) };
  if (status.isDirectory()) return { ...common, type: 'directory' };
  if (!status.isFile()) return { ...common, type: status.isFIFO() ? 'fifo' : status.isSocket() ? 'socket' : 'device' };
  if (!listing.digests) return { ...common, type: 'file' };
  if (status.size > Math.min(digestedBytesMax.one, listing.leftBytes)) return undefined;
  listing.leftBytes -= status.size;
  const digest = await unlessMissing(async () => digestOf(await readFile(path))); // a stream takes three times as long
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
