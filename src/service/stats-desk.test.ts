import { createPublicKey } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeManyRuns, minuteMs, promoted, review } from '../../test/fixtures/many-runs.ts';
import { openSigningKey, type SigningKey } from '../bundle/signing-key.ts';
import { DataDir, type RunDir } from '../data-dir/data-dir.ts';
import { measure } from '../stats/measure.ts';
import { groupings, type Grouping, type Stats } from '../stats/stats.ts';
import { syncRuns } from '../store/rebuild.ts';
import { ada, makeRun } from '../store/runs.fixture.ts';
import { Store } from '../store/store.ts';
import { someVerification } from '../verify/verification.fixture.ts';
import { writeVerification } from '../verify/verification-files.ts';
import { localPrincipal, type Principal } from './principal.ts';
import { StatsDesk, type StatsParts } from './stats-desk.ts';

const fromMs = Date.parse('2026-01-01T00:00:00.000Z');
const nowMs = fromMs + 1000 * minuteMs;
const team = (name: string): Principal => ({ ...localPrincipal(0), team: name, identity: 'ann' });
const bob = { team: 'b', identity: 'bob', key: 'k2' };

let home: string;
let dataDir: DataDir;
let store: Store;
let key: SigningKey;
let aheadMs: number;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'glovebox-stats-desk-'));
  dataDir = await DataDir.open(join(home, 'data'));
  store = Store.open(dataDir.path);
  key = await openSigningKey(dataDir.path);
  aheadMs = 0;
});
afterEach(async () => {
  store.close();
  await rm(home, { recursive: true, force: true });
});

function open(over: Partial<StatsParts> = {}): StatsDesk {
  return new StatsDesk({ ask: () => undefined, store, dataDir, wallMs: () => nowMs + aheadMs, ...over });
}

/** Answers are kept for ten seconds. */
function later(desk: StatsDesk, by: Grouping = 'lane', name = 'a'): Promise<Stats> {
  aheadMs += 11_000;
  return desk.stats(team(name), { by });
}

async function measured(by: Grouping): Promise<Stats> {
  const believed = { machine: [createPublicKey(key.publicPem)] };
  return (await measure(dataDir, { nowMs: nowMs + aheadMs, believed })).stats(by);
}

test('what is stored gives the same numbers as the journals alone, whatever became of 300 runs', async () => {
  await makeManyRuns(dataDir, { runs: 300, seed: 42, fromMs, by: ada, key: key.private });
  await syncRuns(store, dataDir);
  await open({ readMs: 60_000 }).stats(team('a'), {}); // all of them, on a slow machine too
  const read = store.facts.page({ team: 'a', since: '2026' }, '~', 1000);
  expect(read.length).toBeGreaterThan(200);
  expect(read.every(({ facts }) => facts !== null)).toBe(true);
  const stored = open({ readMs: -1 }); // nothing is read any more
  for (const by of groupings) expect(await stored.stats(team('a'), { by })).toEqual(await measured(by));
});

test('what comes after a run was read counts: a verification, a review, a promotion, its rollback, a patch that is gone', async () => {
  const made = await makeManyRuns(dataDir, { runs: 40, seed: 3, fromMs, by: ada, key: key.private });
  await syncRuns(store, dataDir);
  const desk = open();
  expect(await later(desk)).toEqual(await measured('lane'));
  const [one, two, three] = made.slice(-3) as [RunDir, RunDir, RunDir];
  await writeVerification(one, someVerification({ run: one.id, verdict: 'broken' }));
  await review(dataDir, two, { key: key.private, atMs: nowMs, accept: true, by: 'linus' });
  await promoted(dataDir, three, { atMs: nowMs, takenBack: true });
  for (const dir of made.slice(0, 20)) await rm(dir.patch, { force: true });
  const before = await measured('lane');
  expect(await later(desk)).toEqual({ ...before, to: new Date(nowMs + aheadMs).toISOString() });
});

test('a team is told of its own runs alone', async () => {
  await makeManyRuns(dataDir, { runs: 10, fromMs, by: ada, key: key.private });
  await makeRun(dataDir, { openedMs: fromMs, by: bob, effective: { name: 'test', lane: 'secret-lane' } });
  await makeRun(dataDir, { openedMs: fromMs }); // of a command line: of no team
  await syncRuns(store, dataDir);
  const desk = open();
  const [ours, theirs, others] = [await later(desk), await later(desk, 'lane', 'b'), await later(desk, 'lane', 'c')];
  expect(JSON.stringify(ours)).not.toContain('secret-lane');
  expect(theirs).toMatchObject({ all: { runs: 1 }, groups: [{ name: 'secret-lane' }] });
  expect(others).toMatchObject({ from: null, all: { runs: 0 }, groups: [] });
});

test('who may not ask is told nothing', async () => {
  const refused = new Error('forbidden');
  const ask = (): never => {
    throw refused;
  };
  await expect(open({ ask }).stats(team('a'), {})).rejects.toBe(refused);
});

test('where there is more to read than one answer reads, it says how much, and goes on the next time', async () => {
  await makeManyRuns(dataDir, { runs: 20, fromMs, by: ada, key: key.private });
  await syncRuns(store, dataDir);
  const hasty = await later(open({ readMs: -1 }));
  expect(hasty.all.runs).toBe(0);
  expect(hasty.seen.unread).toBeGreaterThan(10);
  const whole = await later(open());
  expect(whole.seen.unread).toBe(0);
  expect(whole.all.runs + whole.seen.made).toBe(hasty.seen.unread);
});

test('a run that cannot be read is counted as such, each time until it can', async () => {
  const dir = await makeRun(dataDir, { openedMs: fromMs, by: ada });
  await makeRun(dataDir, { openedMs: fromMs + 1, by: ada });
  await syncRuns(store, dataDir);
  const sound = await readFile(dir.journal);
  await writeFile(dir.journal, 'no journal\n');
  const desk = open();
  expect(await later(desk)).toMatchObject({ all: { runs: 1 }, seen: { unreadable: 1 } });
  await writeFile(dir.journal, sound);
  expect(await later(desk)).toMatchObject({ all: { runs: 2 }, seen: { unreadable: 0 } });
});

test('what is kept is gone with its run, and what somebody has put there is read anew', async () => {
  const dir = await makeRun(dataDir, { openedMs: fromMs, by: ada });
  await syncRuns(store, dataDir);
  await later(open());
  store.facts.put(dir.id, { stamp: 'facts 1 -', facts: '{"calls":"many"}' });
  expect(await later(open())).toMatchObject({ all: { runs: 1, calls: 0 } });
  store.runs.remove(dir.id);
  expect(store.facts.page({ since: '2026' }, '~', 10)).toEqual([]);
  expect(await later(open())).toMatchObject({ all: { runs: 0 } });
});

test('for who scrapes there is what was counted before, and never a wait', async () => {
  await makeManyRuns(dataDir, { runs: 10, fromMs, by: ada, key: key.private });
  await syncRuns(store, dataDir);
  const desk = open();
  expect(desk.scraped()).toBeUndefined();
  await expect.poll(() => desk.scraped()?.map(({ by }) => by)).toEqual([...groupings]);
  const first = desk.scraped();
  expect(desk.scraped()).toBe(first);
  desk.stop();
  aheadMs += 120_000;
  expect(desk.scraped()).toBe(first);
});

test('a team that asks for many windows at once keeps another waiting for one count, not for all', async () => {
  await makeRun(dataDir, { by: bob });
  await syncRuns(store, dataDir);
  const desk = open();
  const answered: string[] = [];
  const ask = async (name: string, minute: number): Promise<void> => {
    await desk.stats(team(name), { since: new Date(fromMs + minute * minuteMs).toISOString() });
    answered.push(name);
  };
  const many = Array.from({ length: 12 }, (_, minute) => ask('a', minute));
  await Promise.all([...many, ask('b', 0)]);
  expect(answered.indexOf('b')).toBeLessThanOrEqual(2);
});
