import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { digestOf } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import { BlobStore } from './blobs.ts';

let directory: string;
let blobs: BlobStore;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'glovebox-blobs-'));
  blobs = await BlobStore.open(directory);
});
afterEach(() => rm(directory, { recursive: true, force: true }));

async function* pieces(...parts: string[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield Buffer.from(part);
}

test('what was put is found by its digest, whole or streamed', async () => {
  const digest = await blobs.put(Buffer.from('hello world'));
  expect(digest).toBe(digestOf('hello world'));
  expect(await blobs.putStream(pieces('hello ', 'world'), 11)).toEqual({ digest, sizeBytes: 11 });
  expect((await blobs.get(digest)).toString()).toBe('hello world');
  expect((await blobs.head(digest, 5)).toString()).toBe('hello');
  const parts: Buffer[] = [];
  for await (const part of blobs.stream(digest)) parts.push(part);
  expect(Buffer.concat(parts).toString()).toBe('hello world');
});

test('many writers of the same content leave one blob and nothing half written', async () => {
  const contents = Array.from({ length: 60 }, (_, n) => Buffer.alloc(20_000, n % 3));
  await Promise.all(contents.map((content) => blobs.put(content)));
  await Promise.all(contents.map((content) => blobs.putStream(pieces(content.toString('latin1')), 20_000)));
  expect(await readdir(path.join(directory, 'partial'))).toEqual([]);
  for (const content of contents) expect((await blobs.get(digestOf(content))).equals(content)).toBe(true);
});

test('a stream that is longer than allowed is refused and leaves nothing', async () => {
  await expect(blobs.putStream(pieces('aaaa', 'bbbb'), 7)).rejects.toMatchObject({ code: 'limit_exceeded' });
  expect(await readdir(path.join(directory, 'partial'))).toEqual([]);
  expect(await blobs.has(digestOf('aaaabbbb'))).toBe(false);
});

test('what cannot be written is told as the data directory, with what to do; what the source throws stays what it is', async () => {
  // As root nothing is closed to us: what must be a directory is a file.
  await rm(path.join(directory, 'partial'), { recursive: true });
  await writeFile(path.join(directory, 'partial'), '');
  const told = {
    code: 'data_dir_unusable',
    message: expect.stringMatching(/ENOTDIR.*make room there, then try again$/),
  };
  await expect(blobs.put(Buffer.from('x'))).rejects.toMatchObject(told);
  await expect(blobs.putStream(pieces('x'), 1)).rejects.toMatchObject(told);
  blobs = await BlobStore.open(path.join(directory, 'other'));
  const other = path.join(directory, 'other', 'sha256', digestOf('x').slice(7, 9));
  await writeFile(other, '');
  await expect(blobs.put(Buffer.from('x'))).rejects.toMatchObject({ code: 'data_dir_unusable' });
  await expect(blobs.putStream(pieces('x'), 1)).rejects.toMatchObject({ code: 'data_dir_unusable' });
  const gone = new RunnerError('sandbox_lost', 'gone');
  const breaking = async function* (): AsyncGenerator<Uint8Array> {
    yield Buffer.from('y');
    throw gone;
  };
  await expect(blobs.putStream(breaking(), 10)).rejects.toBe(gone);
  expect(await readdir(path.join(directory, 'other', 'partial'))).toEqual([]);
});

test.runIf(process.getuid?.() === 0)('on a full disk too, and with room the same contents are kept', async () => {
  const full = path.join(directory, 'full');
  await mkdir(full);
  await execa('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', full]);
  try {
    blobs = await BlobStore.open(full);
    const kept = await blobs.put(Buffer.alloc(100_000, 1));
    const big = Buffer.alloc(200_000, 2);
    const told = { code: 'data_dir_unusable', message: expect.stringMatching(/ENOSPC/) };
    await expect(blobs.put(big)).rejects.toMatchObject(told);
    await expect(blobs.putStream(pieces(big.toString('latin1')), 1_000_000)).rejects.toMatchObject(told);
    expect(await readdir(path.join(full, 'partial'))).toEqual([]);
    await rm(path.join(full, 'sha256', kept.slice(7, 9)), { recursive: true });
    expect(await blobs.put(big)).toBe(digestOf(big));
  } finally {
    await execa('umount', ['-l', full]);
  }
});

test('content that changed on disk is never handed out as what it was', async () => {
  const digest = await blobs.put(Buffer.from('original'));
  const file = path.join(directory, 'sha256', digest.slice(7, 9), digest.slice(9));
  await chmod(file, 0o600);
  await writeFile(file, 'tampered');
  await expect(blobs.get(digest)).rejects.toMatchObject({ code: 'internal' });
  await expect(
    (async () => {
      for await (const part of blobs.stream(digest)) expect(part.length).toBeGreaterThan(0);
    })(),
  ).rejects.toMatchObject({ code: 'internal' });
});

test('a digest is never taken for a path', async () => {
  await expect(blobs.get('sha256:../../etc/passwd')).rejects.toMatchObject({ code: 'invalid_request' });
});
