import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { RunDir } from '../data-dir/run-dir.ts';
import { newId } from '../ids.ts';
import { findReplay, writeReplay } from './replay-files.ts';
import { ReplayRecord } from './replay-record.ts';
import { someReplay } from './replay-record.fixture.ts';

let dir: RunDir;

beforeEach(async () => {
  dir = new RunDir(newId(), await mkdtemp(join(tmpdir(), 'glovebox-replays-')));
});
afterEach(() => rm(dir.path, { recursive: true, force: true }));

const divergence = { aspect: 'output', expected: 'a', found: 'b', diff: [], hints: [] } as const;
const failure = {
  class: 'not_repeatable',
  attribution: 'agent',
  retryable: false,
  where: 'run',
  evidence: 'e',
} as const;
const leftOut = [{ callId: 'c1', why: 'a terminal session: not replayed' }];

test.each<readonly [string, Partial<ReplayRecord>]>([
  ['is repeatable and diverged', { verdict: 'diverged', repeatable: true, divergence, failure }],
  ['is clean and not repeatable', { repeatable: false }],
  ['is clean and left something out', { leftOut }],
  ['diverged nowhere', { verdict: 'diverged', repeatable: false, failure }],
  ['diverged for no cause', { verdict: 'diverged', repeatable: false, divergence }],
  ['is clean and says where it diverged', { divergence }],
  ['is incomplete and left nothing out', { verdict: 'incomplete', repeatable: false, failure }],
])('no record says of a run that it %s', (_, over) => {
  expect(ReplayRecord.safeParse(someReplay()).success).toBe(true);
  expect(ReplayRecord.safeParse(someReplay(over)).success).toBe(false);
});

test('the newest holds, whichever way their digests sort; one of another run, or that was edited, is an error', async () => {
  expect(await findReplay(dir)).toBeUndefined();
  const ids = [1, 2, 3].map((at) => newId(at * 1e12));
  for (const id of ids.toReversed()) await writeReplay(dir, someReplay({ run: dir.id, id }));
  expect((await findReplay(dir))?.record.id).toBe(ids[2]);
  expect((await readdir(dir.replaysDir)).every((name) => /^[0-9a-f]{64}\.json$/.test(name))).toBe(true);

  const { digest } = await writeReplay(dir, someReplay());
  await expect(findReplay(dir)).rejects.toMatchObject({ code: 'journal_broken' });
  const file = join(dir.replaysDir, `${digest.slice(7)}.json`);
  await rm(file);
  const [name = ''] = await readdir(dir.replaysDir);
  const text = await readFile(join(dir.replaysDir, name), 'utf8');
  await writeFile(join(dir.replaysDir, name), text.replace('"total":3', '"total":4'));
  await expect(findReplay(dir)).rejects.toThrow(/is not what was written there/);
});
