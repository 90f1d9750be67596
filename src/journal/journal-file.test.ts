import fs, { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { checkJournal } from './check.ts';
import { ended, intended, opened, run } from './story.fixture.ts';
import { Journal } from './writer.ts';

let root: string;
let file: string;
let journal: Journal;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'glovebox-journal-'));
  file = join(root, 'journal.ndjson');
  journal = await Journal.create(file, run, { deadlineMs: 500 });
  await journal.append(opened);
});
afterEach(async () => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  await journal.close();
  await rm(root, { recursive: true, force: true });
});

test('a short line is in the file when append returns, and keeps its place behind a long one', async () => {
  void journal.append(intended('a'));
  expect(written('a')).toBe(true);
  const large = intended('b');
  const pieces = Array.from({ length: 20 }, () => 'x'.repeat(1000));
  const both = [
    journal.append({ ...large, data: { ...large.data, arguments: { pieces } } }),
    journal.append(intended('c')),
  ];
  expect(written('c')).toBe(false);
  await Promise.all(both);
  void journal.append(ended('a'));
  expect(await checkJournal(file)).toMatchObject({ entries: 5, findings: [], openCalls: ['b', 'c'] });
});

test.each([
  ['fails', /EIO/, (): never => fail('EIO')],
  ['is written in part', /only 20 of/, () => 20],
  ['comes back too late', /it took \d+ ms/, (_: number, bytes: Uint8Array) => late(600, bytes.length)],
])('nothing is accepted any more after a line that %s', async (_, reason, instead) => {
  instead satisfies (fd: number, bytes: Uint8Array) => number;
  writes(instead);
  await expect(journal.append(intended('a'))).rejects.toThrow(reason);
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  await expect(journal.append(intended('b'))).rejects.toMatchObject({ code: 'journal_unavailable' });
  expect(written('b')).toBe(false);
});

test('after a slow line the next ones are not waited for by everybody', async () => {
  const atOnce = writes((_, bytes) => late(300, bytes.length));
  void journal.append(intended('a'));
  await journal.append(intended('b'));
  expect(atOnce).toHaveBeenCalledTimes(1);
  expect(written('b')).toBe(true);
});

function writes(instead: (fd: number, bytes: Uint8Array) => number) {
  const spy = vi.spyOn(fs, 'writeSync').mockImplementation(instead as typeof fs.writeSync);
  syncBuiltinESMExports();
  return spy;
}

function written(callId: string): boolean {
  return readFileSync(file, 'latin1').includes(`"callId":"${callId}"`);
}

function fail(why: string): never {
  throw new Error(why);
}

/** As a disk that stands still. */
function late(ms: number, result: number): number {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
  return result;
}
