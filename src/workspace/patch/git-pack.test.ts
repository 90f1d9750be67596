import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { GitObjects, type GitObject } from './git-pack.ts';

let home: string;

beforeEach(() => {
  home = mkdtempSync(path.join(tmpdir(), 'glovebox-git-pack-'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const sizes = [0, 1, 15, 16, 2047, 2048, 65_534, 65_535, 65_536, 131_070, 300_000];

async function* inPieces(bytes: Buffer): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; at < bytes.length; at += 70_000) yield bytes.subarray(at, at + 70_000);
}

test('git finds every object whole, by the name it would give it, whatever its size', async () => {
  const contents = sizes.map((size) => Buffer.from(Array.from({ length: size }, (_, at) => (at * at + size) % 251)));
  const objects = GitObjects.create(home);
  const blob = (bytes: Buffer, at: number): GitObject => ({
    type: 'blob',
    sizeBytes: bytes.length,
    bytes: at % 2 === 0 ? bytes : inPieces(bytes),
  });
  const ids = await objects.add(contents.length, contents.map(blob));
  const git = (args: string[], input?: Buffer): Buffer =>
    execFileSync('git', args, { input, env: { PATH: process.env['PATH'], ...objects.environment } });
  for (const [at, bytes] of contents.entries()) {
    expect(git(['hash-object', '--stdin'], bytes).toString().trim()).toBe(ids[at]);
    expect(git(['cat-file', 'blob', ids[at] ?? '']).equals(bytes)).toBe(true);
  }
  expect(git(['verify-pack', path.join(home, 'pack/pack-0.pack')])).toHaveLength(0);
  expect(git(['fsck', '--full', '--no-dangling']).toString()).toBe('');
});
