import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { appendFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DataDir, type RunDir } from '../data-dir/data-dir.ts';
import { digestOf } from '../digest.ts';
import { makeRun } from '../store/runs.fixture.ts';
import { makeManyRuns, minuteMs, promoted, review, writePatch } from '../../test/fixtures/many-runs.ts';
import { measure, type MeasureOptions } from './measure.ts';
import { readFacts } from './read-facts.ts';
import type { Stats } from './stats.ts';

const { privateKey: key } = generateKeyPairSync('ed25519');
const fromMs = Date.parse('2026-01-01T00:00:00.000Z');
const nowMs = fromMs + 1000 * minuteMs;

let home: string;
let dataDir: DataDir;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'glovebox-stats-'));
  dataDir = await DataDir.open(join(home, 'data'));
});
afterEach(() => rm(home, { recursive: true, force: true }));

async function statsOf(options: Partial<MeasureOptions> = {}): Promise<Stats> {
  return (await measure(dataDir, { nowMs, believed: { machine: [createPublicKey(key)] }, ...options })).stats('lane');
}

async function linesOf(dir: RunDir): Promise<number | null | undefined> {
  return (await readFacts(dir, (run) => dataDir.runDir(run)))?.linesSinceFork;
}

test('an empty data directory has no numbers', async () => {
  expect(await statsOf()).toMatchObject({ from: null, groups: [], all: { runs: 0 } });
});

test('what became of runs is read with their journals: accepted by a person, promoted, taken back', async () => {
  const made = await Promise.all([1, 2, 3, 4].map((at) => makeRun(dataDir, { openedMs: fromMs + at })));
  const [one, two, three] = made as [RunDir, RunDir, RunDir, RunDir];
  await review(dataDir, one, { key, atMs: fromMs + 10, accept: true });
  await promoted(dataDir, two, { atMs: fromMs + 10, takenBack: true });
  await promoted(dataDir, three, { atMs: fromMs + 10, takenBack: false });
  const { all } = await statsOf();
  expect(all).toMatchObject({
    runs: 4,
    accepted: 2,
    firstReview: { count: 1, of: 1 },
    rolledBack: { count: 1, of: 2 },
  });
});

test('of a fork the lines are told in which its patch differs, as long as both patches are kept', async () => {
  const parent = await makeRun(dataDir, { openedMs: fromMs });
  const fork = await makeRun(dataDir, { openedMs: fromMs + 1, forkedFrom: { run: parent.id, base: digestOf('base') } });
  await writePatch(parent, 2);
  await writePatch(fork, 5);
  expect(await linesOf(fork)).toBe(3);
  expect(await linesOf(parent)).toBeNull();
  await rm(parent.patch);
  expect(await linesOf(fork)).toBeNull();
});

test('only runs since then are read', async () => {
  for (let day = 0; day < 10; day++) await makeRun(dataDir, { openedMs: fromMs + day * 86_400_000 });
  const read: number[] = [];
  const since = { sinceMs: fromMs + 7 * 86_400_000, nowMs: fromMs + 10 * 86_400_000 };
  const { all, from } = await statsOf({ ...since, onRead: (_, of) => read.push(of) });
  expect(all.runs).toBe(3);
  expect(from).toBe('2026-01-08T00:00:00.000Z');
  expect(read).toEqual([3, 3, 3]);
});

test('what is not what was written counts for nothing, and is said', async () => {
  const made = await makeManyRuns(dataDir, { runs: 5, fromMs, key });
  const before = await statsOf();
  const [broken, other] = made as readonly [RunDir, RunDir, ...RunDir[]];
  await appendFile(broken.journal, '{"v":1}\n');
  await review(dataDir, other, { key, atMs: nowMs, accept: true, by: 'mallory' });
  const folder = join(dataDir.path, 'reviews', digestOf(other.id).slice('sha256:'.length));
  for (const name of await readdir(folder)) await writeFile(join(folder, name), '{}');
  const reasons: string[] = [];
  const after = await statsOf({ onUnreadable: (reason) => reasons.push(reason) });
  expect(reasons.some((reason) => reason.includes(broken.id))).toBe(true);
  expect(reasons.some((reason) => reason.includes('no review that was signed here'))).toBe(true);
  expect(after.seen.unreadable).toBe(reasons.length);
  expect(after.all.runs + after.seen.open + after.seen.made).toBe(4);
  expect(before.seen.unreadable).toBe(0);
});

test('a run directory without a journal is no run', async () => {
  await dataDir.createRun((await makeRun(dataDir, { openedMs: fromMs })).id.replace(/.$/, '0'));
  expect(await statsOf()).toMatchObject({ all: { runs: 1 }, seen: { unreadable: 0 } });
});

test('whoever has enough of waiting stops it', async () => {
  await makeManyRuns(dataDir, { runs: 20, fromMs, key });
  const stop = new AbortController();
  const reading = statsOf({ signal: stop.signal, onRead: (read) => (read === 5 ? stop.abort() : undefined) });
  await expect(reading).rejects.toMatchObject({ name: 'AbortError' });
});
