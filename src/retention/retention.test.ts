import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DataDir, type RunDir } from '../data-dir/data-dir.ts';
import type { Digest } from '../digest.ts';
import { WriterLock } from '../journal/lock.ts';
import type { Moment } from '../machine-clock.ts';
import { RetentionSweep } from '../service/retention.ts';
import { ada, makeRun, type MadeRun } from '../store/runs.fixture.ts';
import { syncRuns } from '../store/rebuild.ts';
import { Store } from '../store/store.ts';
import { BlobStore } from '../workspace/blobs.ts';
import { carryOutRetention, type Retained } from './carry-out.ts';
import { believeClock } from './clock-record.ts';

const dayMs = 86_400_000;
const nowMs = Date.parse('2026-06-01T00:00:00.000Z');
const ago = (days: number): number => nowMs - days * dayMs;

let root: string;
let dataDir: DataDir;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'glovebox-retention-'));
  dataDir = await DataDir.open(root);
  await BlobStore.open(dataDir.blobsDir);
});
afterEach(() => rm(root, { recursive: true, force: true }));

/** Closed so many days ago, with everything that a run leaves. */
async function ranDaysAgo(days: number, made: MadeRun = {}): Promise<RunDir> {
  const closedMs = ago(days);
  const outputs = { 'call-1.out': 'x'.repeat(1000), 'ledger.ndjson': '{}\n' };
  const dir = await makeRun(dataDir, { openedMs: closedMs - 60_000, closedMs, outputs, ...made });
  await mkdir(dir.approvalsDir);
  const files = [dir.answers, dir.changeSet, dir.patch, dir.base, dir.policy, join(dir.approvalsDir, 'a.json')];
  for (const file of files) await writeFile(file, '{}');
  return dir;
}

const moment = (wallMs: number, upMs: number): Moment => ({ wallMs, bootId: 'boot', awakeMs: upMs, upMs });

function carryOut(options: Parameters<typeof carryOutRetention>[1] = {}): Promise<Retained> {
  return carryOutRetention(dataDir, { nowMs, ...options });
}

const kinds = ({ removed }: Retained): readonly string[] => removed.map(({ kind, id }) => `${kind} ${id}`).toSorted();

/** Every path under the data directory, with when it was last written. */
async function everything(): Promise<string> {
  const names = await readdir(root, { recursive: true });
  const lines = await Promise.all(names.map(async (name) => `${name} ${(await stat(join(root, name))).mtimeMs}`));
  return lines.toSorted().join('\n');
}

describe('retention', () => {
  test('takes outputs first, then diffs, at last the journal with all of the run', async () => {
    const [young, month, season, old] = [
      await ranDaysAgo(29),
      await ranDaysAgo(31),
      await ranDaysAgo(91),
      await ranDaysAgo(401),
    ];
    const done = await carryOut();
    expect(kinds(done)).toEqual(
      [`output ${month.id}`, `output ${season.id}`, `diff ${season.id}`, `run ${old.id}`].toSorted(),
    );
    expect((await dataDir.listRuns()).map(({ id }) => id).toSorted()).toEqual(
      [young, month, season].map(({ id }) => id).toSorted(),
    );
    const left = async (dir: RunDir): Promise<readonly string[]> =>
      (await readdir(dir.path, { recursive: true })).toSorted();
    const always = ['approvals', 'approvals/a.json', 'calls', 'journal.ndjson', 'policy.json'];
    expect(await left(season)).toEqual(always);
    expect(await left(month)).toEqual([...always, 'base.json', 'change-set.json', 'changes.patch'].toSorted());
    expect(await left(young)).toContain('calls/call-1.out');
    expect((await stat(month.callsDir)).mode & 0o777).toBe(0o700);
    expect(await carryOut()).toEqual({ removed: [], uploads: [], kept: [], failed: [], blobs: { count: 0, bytes: 0 } });
  });

  test('says beforehand what would go and why, with sizes, and touches nothing', async () => {
    const dir = await ranDaysAgo(31);
    await ranDaysAgo(401);
    const before = await everything();
    const said = await carryOut({ dryRun: true });
    expect(said.removed.find(({ id }) => id === dir.id)).toMatchObject({
      kind: 'output',
      bytes: 1005,
      reason: 'closed 31 d ago; its policy keeps this for 30 d',
    });
    expect(await everything()).toBe(before);
    expect(kinds(await carryOut())).toEqual(kinds(said));
  });

  test("is each run's own policy's", async () => {
    const retention = { journalMs: 2 * dayMs, outputMs: dayMs / 2, diffMs: dayMs };
    const strict = { effective: { name: 'strict', retention } };
    const [half, two, three] = [
      await ranDaysAgo(0.6, strict),
      await ranDaysAgo(1.5, strict),
      await ranDaysAgo(3, strict),
    ];
    await ranDaysAgo(3);
    expect(kinds(await carryOut())).toEqual(
      [`output ${half.id}`, `output ${two.id}`, `diff ${two.id}`, `run ${three.id}`].toSorted(),
    );
  });

  test('never touches a run that is open, however old, or whose journal is being written', async () => {
    const open = await ranDaysAgo(500, { closedMs: null, openedMs: ago(500) });
    const held = await ranDaysAgo(500);
    const lock = await WriterLock.acquire(held.journal);
    const done = await carryOut();
    expect(done.removed).toEqual([]);
    expect(done.kept).toEqual([{ id: held.id, reason: 'somebody writes its journal' }]);
    expect([existsSync(open.answers), existsSync(held.answers)]).toEqual([true, true]);
    await lock.release();
    expect(kinds(await carryOut())).toEqual([`run ${held.id}`]);
  });

  test('leaves a run whose journal was changed as it is: that is evidence', async () => {
    const dir = await ranDaysAgo(500);
    const text = await readFile(dir.journal, 'utf8');
    await writeFile(dir.journal, text.replace('make the tests pass', 'make the tests fail'));
    const done = await carryOut();
    expect(done).toMatchObject({ removed: [], kept: [{ id: dir.id, reason: /not what was written/ }] });
    await writeFile(dir.journal, 'nonsense\n');
    expect(await carryOut()).toMatchObject({ removed: [], kept: [{ id: dir.id }] });
    expect(existsSync(dir.answers)).toBe(true);
  });

  test('that is cut short anywhere is finished by the next', async () => {
    const [calls, run] = [await ranDaysAgo(31), await ranDaysAgo(401)];
    // as far as the rename, then the process was killed
    await rename(calls.callsDir, dataDir.graveFor(`${calls.id}-calls`));
    await rename(run.path, dataDir.graveFor(run.id));
    await rm(calls.changeSet);
    const done = await carryOut();
    expect(kinds(done)).toEqual([`output ${calls.id}`]);
    expect(existsSync(calls.answers)).toBe(false);
    expect((await readdir(join(root, 'runs'))).toSorted()).toEqual([calls.id]);
  });

  test('stops between two removals when it is told to', async () => {
    await ranDaysAgo(401);
    await ranDaysAgo(402);
    const stop = new AbortController();
    const done = await carryOut({ signal: stop.signal, onRunRemoved: () => stop.abort() });
    expect(done.removed).toHaveLength(1);
    expect(await dataDir.listRuns()).toHaveLength(1);
  });
});

describe('contents', () => {
  async function put(text: string, days = 30): Promise<Digest> {
    const digest = await (await BlobStore.open(dataDir.blobsDir)).put(Buffer.from(text));
    await age(digest, days);
    return digest;
  }
  async function age(digest: Digest, days: number): Promise<void> {
    await utimes(fileOf(digest), new Date(ago(days)), new Date(ago(days)));
  }
  function fileOf(digest: Digest): string {
    return join(dataDir.blobsDir, 'sha256', digest.slice(7, 9), digest.slice(9));
  }

  test('go when no run and no base names them any more', async () => {
    const [inBase, inChanges, inBases, inSnapshot, nowhere] = [
      await put('base'),
      await put('changes'),
      await put('bases'),
      await put('snapshot'),
      await put('nowhere'),
    ] as const;
    const dir = await ranDaysAgo(10);
    await writeFile(dir.base, JSON.stringify({ 'a.txt': { digest: inBase } }));
    await writeFile(dir.changeSet, `${' '.repeat(128 * 1024 - 20)}${JSON.stringify({ digest: inChanges })}`);
    await mkdir(join(dir.path, 'snapshots'));
    await writeFile(join(dir.path, 'snapshots', '1.json'), JSON.stringify({ digest: inSnapshot }));
    await mkdir(join(dataDir.basesDir, 'key'), { recursive: true });
    await writeFile(join(dataDir.basesDir, 'key', 'manifest.json'), JSON.stringify([inBases]));
    expect((await carryOut({ dryRun: true })).blobs).toEqual({ count: 1, bytes: 7 });
    expect(existsSync(fileOf(nowhere))).toBe(true);
    expect((await carryOut()).blobs).toEqual({ count: 1, bytes: 7 });
    const all = [inBase, inChanges, inBases, inSnapshot, nowhere];
    expect(all.map((digest) => existsSync(fileOf(digest)))).toEqual([true, true, true, true, false]);
  });

  test('of a diff go with the diff, and a dry run counts them', async () => {
    const digest = await put('changed');
    const dir = await ranDaysAgo(91);
    await writeFile(dir.changeSet, JSON.stringify({ digest }));
    expect((await carryOut({ dryRun: true })).blobs.count).toBe(1);
    expect((await carryOut()).blobs.count).toBe(1);
    expect(existsSync(fileOf(digest))).toBe(false);
  });

  test('that were asked for since the oldest open run began, or within a day, stay', async () => {
    const [recent, used, early] = [await put('recent', 0.5), await put('used', 30), await put('early', 30)];
    await ranDaysAgo(0, { openedMs: ago(20), closedMs: null });
    const blobs = await BlobStore.open(dataDir.blobsDir);
    for (const ask of [() => blobs.has(used), () => blobs.put(Buffer.from('used')), () => blobs.get(used)]) {
      await age(used, 30);
      await ask();
      expect((await stat(fileOf(used))).mtimeMs).toBeGreaterThan(ago(1));
    }
    await age(used, 19);
    expect((await carryOut()).blobs.count).toBe(1);
    expect([recent, used, early].map((digest) => existsSync(fileOf(digest)))).toEqual([true, true, false]);
  });

  test('that are asked for while they are being removed are there afterwards', async () => {
    const blobs = await BlobStore.open(dataDir.blobsDir);
    const contents = Array.from({ length: 60 }, (_, n) => Buffer.from(`content ${n}`));
    for (let round = 0; round < 5; round++) {
      for (const content of contents) await age(await blobs.put(content), 30);
      const collecting = carryOut();
      const putting = Promise.all(contents.map((content) => blobs.put(content)));
      const [digests] = await Promise.all([putting, collecting]);
      for (const digest of digests) expect(await blobs.has(digest), digest).toBe(true);
      const [first] = contents;
      expect(digests[0]).toBe(
        `sha256:${createHash('sha256')
          .update(first ?? '')
          .digest('hex')}`,
      );
    }
  });
});

describe('the sweep of a service', () => {
  test('takes runs out of its store too, and says what it did', async () => {
    const dir = await ranDaysAgo(401, { by: ada });
    const store = Store.open(root);
    await syncRuns(store, dataDir);
    expect(store.runs.find(dir.id)?.state).toBe('closed');
    const swept: Retained[] = [];
    const sweep = new RetentionSweep({
      dataDir,
      store,
      moment: () => moment(nowMs, 0),
      onSwept: (one) => swept.push(one),
    });
    await sweep.sweep();
    expect(swept.map(kinds)).toEqual([[`run ${dir.id}`]]);
    expect(store.runs.find(dir.id)).toBeUndefined();
    store.close();
  });

  test('removes nothing after the clock was set, in either direction, with a service or between two, until somebody has looked', async () => {
    await ranDaysAgo(10);
    const store = Store.open(root);
    let now = moment(nowMs, 0);
    const [said, swept]: [string[], Retained[]] = [[], []];
    const parts = { dataDir, store, moment: () => now, everyMs: 3_600_000 };
    const onSwept = (one: Retained): void => void swept.push(one);
    const sweepOnce = (): Promise<void> =>
      new RetentionSweep({ ...parts, onSwept, onFailed: (text) => said.push(text) }).sweep();
    await sweepOnce();
    for (const years of [1, -1]) {
      now = moment(nowMs + years * 365 * dayMs, 60_000);
      await sweepOnce();
    }
    expect([said.length, swept.length]).toEqual([2, 1]);
    expect(said[0]).toMatch(/the clock was set by 525599 minutes.*glovebox gc --clock-is-right/);
    now = moment(nowMs + 60 * dayMs, 60 * dayMs);
    await sweepOnce();
    expect(swept.flatMap(kinds), 'it was right again').toHaveLength(1);
    now = moment(nowMs + 95 * dayMs, 60 * dayMs);
    await believeClock(dataDir, now);
    await sweepOnce();
    expect(swept.flatMap(kinds), 'somebody has said that it is right').toHaveLength(2);
    now = { ...moment(nowMs + 500 * dayMs, 1_000), bootId: 'another' };
    await sweepOnce();
    expect(swept.flatMap(kinds), 'while the machine is off nobody counts').toHaveLength(3);
    store.close();
  });

  test('comes by itself, one at a time, and ends when it is told to', async () => {
    const store = Store.open(root);
    let count = 0;
    let second: () => void = () => undefined;
    const twice = new Promise<void>((resolve) => (second = resolve));
    const onSwept = (): void => {
      count += 1;
      if (count === 2) second();
    };
    const sweep = new RetentionSweep({ dataDir, store, everyMs: 5, onSwept });
    sweep.start();
    sweep.start();
    await twice;
    await sweep.stop();
    const after = count;
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(count).toBe(after);
    await sweep.stop();
    store.close();
  });
});
