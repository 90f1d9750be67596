import { appendFile, cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DataDir } from '../data-dir/data-dir.ts';
import { digestOf } from '../digest.ts';
import { newId } from '../ids.ts';
import { readEnds } from '../journal/ends.ts';
import { attached } from '../journal/story.fixture.ts';
import { Journal } from '../journal/writer.ts';
import { syncRuns } from './rebuild.ts';
import { repairStore } from './repair.ts';
import { ada, makeRun } from './runs.fixture.ts';
import { Store, storeFile } from './store.ts';

let root: string;
let dataDir: DataDir;
const open: Store[] = [];
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'glovebox-rebuild-'));
  dataDir = await DataDir.open(root);
});
afterEach(async () => {
  for (const store of open.splice(0)) store.close();
  await rm(root, { recursive: true, force: true });
});

function store(): Store {
  const made = Store.open(dataDir.path);
  open.push(made);
  return made;
}

describe('the list of runs', () => {
  test('is made again from the journals, whoever opened them and however they ended', async () => {
    const effective = { name: 'test', lane: 'fast', taskClass: 'bugfix' };
    const closed = await makeRun(dataDir, { by: { ...ada, name: 'fix' }, effective });
    const living = await makeRun(dataDir, { by: { ...ada, team: 'b' }, closedMs: null });
    await makeRun(dataDir); // by nobody's service
    const { runs } = store();
    expect(await syncRuns(open[0] as Store, dataDir)).toMatchObject({ closed: [], unreadable: [] });
    expect(
      runs
        .list({ limit: 10 })
        .map(({ id }) => id)
        .sort(),
    ).toEqual([closed.id, living.id].sort());
    const whose = {
      team: 'a',
      identity: 'ada',
      keyId: 'k1',
      name: 'fix',
      policy: 'test',
      lane: 'fast',
      class: 'bugfix',
    };
    expect(runs.find(closed.id)).toMatchObject({ ...whose, state: 'closed', outcome: 'finished' });
    expect(runs.find(living.id)).toMatchObject({ team: 'b', state: 'open', closedAt: null, outcome: null });
    expect(await syncRuns(open[0] as Store, dataDir)).toEqual({ added: [], closed: [], unreadable: [] });
  });

  test('knows who has made calls in a run that is open, refused ones too, and who said what its agent believes', async () => {
    const dir = await makeRun(dataDir, { by: ada, closedMs: null });
    const { journal } = await Journal.reopen(dir.journal);
    const call = { tool: 'exec', arguments: {}, argsDigest: digestOf('{}') };
    await (
      await journal.intend({ ...call, callId: 'c1', by: 'bot', count: 1 })
    )({ outcome: { kind: 'done' }, ms: 1 });
    const data = { callId: 'c2', tool: 'exec', by: 'eve', rule: 'files.write', reason: 'no' };
    await journal.append({ type: 'call.denied', data });
    await journal.append({ type: 'participant.joined', data: { by: 'bob', how: 'fork_source' } });
    await journal.append(attached(1, { by: 'cy' }));
    await journal.close();
    const { runs } = store();
    await syncRuns(open[0] as Store, dataDir);
    expect(runs.callers(dir.id)).toEqual(new Set(['bot', 'eve', 'bob', 'cy']));
  });

  test('of a store that was put back from an older copy learns who has joined since', async () => {
    const dir = await makeRun(dataDir, { by: ada, closedMs: null });
    const { runs } = store();
    await syncRuns(open[0] as Store, dataDir);
    const { journal } = await Journal.reopen(dir.journal);
    await journal.append({ type: 'participant.joined', data: { by: 'bob', how: 'closed' } });
    await journal.close();
    expect(runs.callers(dir.id)).toEqual(new Set());
    await syncRuns(open[0] as Store, dataDir);
    expect(runs.callers(dir.id)).toEqual(new Set(['bob']));
  });

  test('says that a run is closed when its journal does, and that one without a journal never began', async () => {
    const dir = await makeRun(dataDir, { by: ada, closedMs: null });
    const all = store();
    await syncRuns(all, dataDir);
    const row = all.runs.find(dir.id);
    if (row === undefined) throw new Error('it is not there');
    const absent = { ...row, id: newId(), state: 'opening' as const };
    all.runs.insert(absent);
    const { journal } = await Journal.reopen(dir.journal);
    const data = { outcome: 'lost', summary: '', calls: 0, denied: 0, outputBytes: 0, ms: 0 } as const;
    await journal.append({ type: 'run.closed', data });
    await journal.close();
    expect((await syncRuns(all, dataDir)).closed.toSorted()).toEqual([dir.id, absent.id].toSorted());
    expect(all.runs.find(dir.id)).toMatchObject({ state: 'closed', outcome: 'lost' });
    expect(all.runs.find(absent.id)).toMatchObject({ state: 'closed', outcome: 'failed' });
  });

  test('names the journals that cannot be read, and leaves them out', async () => {
    const [good, bad] = [await makeRun(dataDir, { by: ada }), await makeRun(dataDir, { by: ada })];
    await writeFile(bad.journal, (await readFile(bad.journal, 'utf8')).replace('ada', 'eve').replace('"v":1', '"v":2'));
    const { added, unreadable } = await syncRuns(store(), dataDir);
    expect([added, unreadable.map(({ id }) => id)]).toEqual([[good.id], [bad.id]]);
  });
});

describe('the ends of a journal', () => {
  test('are its first and last whole line, also behind a torn one', async () => {
    const dir = await makeRun(dataDir, { by: ada, openedMs: 1_700_000_000_000, closedMs: 1_700_000_900_000 });
    const ends = await readEnds(dir.journal);
    expect(ends).toMatchObject({ run: dir.id, opened: { by: ada }, closed: { outcome: 'finished' } });
    expect([ends?.openedAt, ends?.closedAt]).toEqual(['2023-11-14T22:13:20.000Z', '2023-11-14T22:28:20.000Z']);
    await appendFile(dir.journal, '{"at":"half');
    expect((await readEnds(dir.journal))?.closed?.outcome).toBe('finished');
    expect(await readEnds(join(dir.path, 'nothing'))).toBeUndefined();
    await writeFile(dir.journal, '{"half');
    expect(await readEnds(dir.journal)).toBeUndefined();
    await writeFile(dir.journal, 'nonsense\n');
    await expect(readEnds(dir.journal)).rejects.toMatchObject({ code: 'journal_broken' });
  });
});

describe('a repair', () => {
  test('of a store that is gone finds its runs again', async () => {
    const dir = await makeRun(dataDir, { by: ada });
    expect(await repairStore(dataDir)).toMatchObject({ added: [dir.id], kept: undefined, lost: [] });
    expect(store().runs.find(dir.id)?.team).toBe('a');
    expect((await readdir(root)).filter((name) => name.startsWith('state.db.'))).toEqual([]);
  });

  test('of a damaged one keeps what is left: keys work, answers stand, the old file is beside it', async () => {
    const dir = await makeRun(dataDir, { by: ada, closedMs: null });
    const before = store();
    const draft = { team: 'a', identity: 'ada', scopes: ['call'], policies: ['ci'], expiresAt: null } as const;
    const [kept, gone] = [before.keys.create(draft), before.keys.create(draft)];
    before.keys.revoke(gone.row.id);
    await syncRuns(before, dataDir);
    before.runs.addCaller(dir.id, 'bot');
    const answer = {
      approvalId: newId(),
      runId: dir.id,
      identity: 'bob',
      approve: true,
      reason: 'fine',
      at: '2026-01-01',
    };
    before.verdicts.add(answer);
    for (let n = 0; n < 500; n++) before.runs.insert({ ...rowOf(before, dir.id), id: newId(n), state: 'closed' });
    // The pages of the runs are overwritten: SQLite finds that, and the other tables can still be read.
    const whole = join(root, 'whole');
    before.copyTo(whole);
    const bytes = await readFile(whole);
    const pages = bytes.length / 4096;
    for (let page = pages - 10; page < pages; page++) bytes.fill(0xff, page * 4096, page * 4096 + 4096);
    const damagedDir = await DataDir.open(join(root, 'damaged'));
    await writeFile(storeFile(damagedDir.path), bytes, { mode: 0o600 });
    await rm(join(damagedDir.path, 'runs'), { recursive: true });
    await cp(join(root, 'runs'), join(damagedDir.path, 'runs'), { recursive: true });
    expect(() => Store.open(damagedDir.path)).toThrow(/glovebox state repair/);

    const repaired = await repairStore(damagedDir);
    expect(repaired).toMatchObject({ added: [dir.id], salvaged: { keys: 2, callers: 1, verdicts: 1 } });
    expect(await readFile(repaired.kept ?? '')).toEqual(bytes);
    const after = Store.open(damagedDir.path);
    open.push(after);
    expect(after.damage()).toEqual([]);
    expect(after.keys.find(kept.secret)?.id).toBe(kept.row.id);
    expect(after.keys.find(gone.secret)).toBeUndefined();
    expect([after.runs.callers(dir.id), after.verdicts.of(answer.approvalId)]).toEqual([new Set(['bot']), [answer]]);
  });
});

function rowOf(from: Store, id: string) {
  const row = from.runs.find(id);
  if (row === undefined) throw new Error(`run ${id} is not there`);
  return row;
}
