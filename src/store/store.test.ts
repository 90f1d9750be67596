import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '../digest.ts';
import { newId } from '../ids.ts';
import { Database } from './database.ts';
import { Runs, type RunRow } from './runs.ts';
import { Store, storeFile } from './store.ts';
import { compiled } from '../program.fixture.ts';

let root: string;
let dir: string;
let open: Store[];
beforeEach(() => {
  dir = root = mkdtempSync(join(tmpdir(), 'glovebox-store-'));
  open = [];
});
afterEach(() => {
  for (const store of open) store.close();
  rmSync(root, { recursive: true, force: true });
});

function store(): Store {
  const made = Store.open(dir);
  open.push(made);
  return made;
}

function runRow(patch: Partial<RunRow> = {}): RunRow {
  return {
    id: newId(),
    team: 'a',
    identity: 'ada',
    keyId: 'k',
    name: null,
    state: 'open',
    policy: 'default',
    lane: null,
    class: null,
    openedAt: new Date().toISOString(),
    closedAt: null,
    outcome: null,
    summary: null,
    ...patch,
  };
}

describe('the store', () => {
  test('is for its owner alone, with what SQLite keeps beside it', () => {
    store().runs.insert(runRow());
    for (const suffix of ['', '-wal', '-shm']) expect(statSync(`${storeFile(dir)}${suffix}`).mode & 0o777).toBe(0o600);
  });

  test('keeps what was written, and two processes see each other at once', () => {
    const [one, two] = [store(), store()];
    const row = runRow({ name: 'fix', class: 'bugfix' });
    one.runs.insert(row);
    expect(two.runs.find(row.id)).toEqual(row);
    two.runs.update(row.id, { state: 'closed', outcome: 'finished', closedAt: '2026-01-02T03:04:05.000Z' });
    expect(one.runs.find(row.id)).toMatchObject({ state: 'closed', outcome: 'finished' });
    one.close();
    expect(two.runs.list({ limit: 10 })).toHaveLength(1);
  });

  test('of a transaction keeps all or nothing', () => {
    const { runs, transaction } = { runs: store().runs, transaction: store().transaction.bind(open[1]) };
    expect(() =>
      transaction(() => {
        open[1]?.runs.insert(runRow());
        open[1]?.transaction(() => open[1]?.runs.insert(runRow()));
        throw new Error('no');
      }),
    ).toThrow('no');
    expect(runs.list({ limit: 10 })).toEqual([]);
  });

  test('survives the death of its writer in the middle of writing: every row that was acknowledged is there', async () => {
    const program = `
      import { Store } from '${fileURLToPath(new URL('store.ts', import.meta.url))}';
      const store = Store.open(process.argv[3]);
      for (let n = 0; ; n++) {
        const id = String(n).padStart(26, '0');
        store.runs.insert({ ...JSON.parse(process.argv[2]), id });
        process.stdout.write(id + '\\n');
      }`;
    const writer = spawn(process.execPath, [await compiled(program), JSON.stringify(runRow()), dir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    for await (const chunk of writer.stdout) {
      said += String(chunk);
      if (said.length > 27 * 200) break;
    }
    writer.kill('SIGKILL');
    await once(writer, 'close');
    const acknowledged = said.slice(0, said.lastIndexOf('\n')).split('\n');
    const { runs, damage } = { runs: store().runs, damage: open[0]?.damage() };
    expect(damage).toEqual([]);
    const kept = new Set(runs.list({ limit: 1_000_000 }).map(({ id }) => id));
    expect(acknowledged.length).toBeGreaterThan(199);
    expect(acknowledged.filter((id) => !kept.has(id))).toEqual([]);
  });

  test('is opened for the first time by several processes at once', async () => {
    const program = `
      import { Store } from '${fileURLToPath(new URL('store.ts', import.meta.url))}';
      Store.open(process.argv[4]).runs.insert({ ...JSON.parse(process.argv[2]), id: process.argv[3] });`;
    const file = await compiled(program);
    const writers = Array.from({ length: 4 }, (_, n) =>
      spawn(process.execPath, [file, JSON.stringify(runRow()), newId(n), dir], { stdio: ['ignore', 'ignore', 'pipe'] }),
    );
    const codes = await Promise.all(writers.map(async (writer) => (await once(writer, 'exit'))[0] as number));
    expect(codes).toEqual([0, 0, 0, 0]);
    expect(store().runs.list({ limit: 10 })).toHaveLength(4);
  });
});

describe('a file that is not as it should be', () => {
  function spoilt(spoil: (bytes: Buffer) => void): void {
    const made = store();
    for (let n = 0; n < 2000; n++) made.runs.insert(runRow({ id: newId(n), name: `run-${n}` }));
    const copy = join(dir, 'copy');
    made.copyTo(copy);
    const bytes = readFileSync(copy);
    spoil(bytes);
    dir = join(dir, 'other');
    mkdirSync(dir);
    writeFileSync(storeFile(dir), bytes);
  }

  test('is refused when pages of it are overwritten, saying what to do', () => {
    spoilt((bytes) => bytes.fill(0xff, 4096 * 3, 4096 * 9));
    const before = digestOf(readFileSync(storeFile(dir)));
    expect(() => store()).toThrow(/is damaged .*restore a backup.*glovebox state repair/s);
    expect(digestOf(readFileSync(storeFile(dir)))).toBe(before);
  });

  test('is refused when its beginning is gone, or it is no database at all', () => {
    spoilt((bytes) => bytes.fill(0, 0, 100));
    expect(() => store()).toThrow(/damaged/);
    writeFileSync(storeFile(dir), 'not a database, but long enough to be taken for one'.repeat(100));
    expect(() => store()).toThrow(/damaged/);
  });

  test('is refused when its end is cut off', () => {
    spoilt(() => undefined);
    truncateSync(storeFile(dir), 4096 * 5);
    expect(() => store()).toThrow(/damaged/);
  });

  test('is refused when a newer version or another program wrote it', () => {
    store().close();
    const raw = Database.open(storeFile(dir), { durability: 'process', busyMs: 0 });
    raw.run('PRAGMA user_version = 99');
    raw.close();
    expect(() => store()).toThrow(/newer glovebox \(its schema is 99/);
    rmSync(storeFile(dir));
    const other = Database.open(storeFile(dir), { durability: 'process', busyMs: 0 });
    other.run('PRAGMA application_id = 7');
    other.close();
    expect(() => store()).toThrow(/another program/);
  });

  test('whose log is cut off goes back to the last commit that is whole', () => {
    const made = store();
    const rows = Array.from({ length: 50 }, (_, n) => runRow({ id: newId(n) }));
    for (const row of rows) made.runs.insert(row);
    const log = readFileSync(`${storeFile(dir)}-wal`);
    const whole = readFileSync(storeFile(dir));
    dir = join(dir, 'other');
    mkdirSync(dir);
    writeFileSync(storeFile(dir), whole);
    writeFileSync(`${storeFile(dir)}-wal`, log.subarray(0, Math.floor((log.length * 4) / 5) + 7));
    const again = store();
    expect(again.damage()).toEqual([]);
    const kept = again.runs.list({ limit: 100 }).map(({ id }) => id);
    const first = rows.slice(0, kept.length).map(({ id }) => id);
    expect(kept.toReversed()).toEqual(first);
    expect(kept.length).toBeGreaterThan(0);
    expect(kept.length).toBeLessThan(50);
  });

  test('in a directory that cannot be written is refused with a reason', () => {
    if (process.geteuid?.() === 0) {
      expect(() => Store.open('/proc/self')).toThrow(/data_dir_unusable|cannot be opened/);
      return;
    }
    expect(() => Store.open('/')).toThrow(/cannot be opened/);
  });

  test('that finds no room says so, is read as before, and goes on once there is some', () => {
    store();
    const database = Database.open(storeFile(dir), { durability: 'process', busyMs: 0 });
    const runs = new Runs(database);
    database.all('PRAGMA max_page_count = 40');
    const kept: string[] = [];
    const fill = (): void => {
      for (let n = 0; n < 10_000; n++) {
        const row = runRow({ id: newId(n), policy: 'x'.repeat(500) });
        runs.insert(row);
        kept.push(row.id);
      }
    };
    expect(fill).toThrow(/state\.db could not be read or written: .*full; see to its disk: is there room\?/);
    expect(kept.length).toBeGreaterThan(10);
    expect(runs.list({ limit: 10_000 }).map(({ id }) => id)).toEqual(kept.toReversed());
    database.all('PRAGMA max_page_count = 1000');
    runs.insert(runRow());
    expect(database.damage()).toEqual([]);
    database.close();
  });

  test('held by another writer is waited for so long, then refused with a reason', () => {
    store();
    const one = Database.open(storeFile(dir), { durability: 'process', busyMs: 20 });
    one.transaction(() => {
      const two = Database.open(storeFile(dir), { durability: 'process', busyMs: 20 });
      expect(() => two.run('DELETE FROM runs')).toThrow(/another process holds it/);
      two.close();
    });
    one.close();
  });
});

describe('runs', () => {
  test('are listed newest first by team, state and name, and counted while they are open', () => {
    const { runs } = store();
    const rows = [1, 2, 3, 4].map((n) => runRow({ id: newId(n), team: n === 4 ? 'b' : 'a', name: `r${n}` }));
    for (const row of rows) runs.insert(row);
    const [first, second, third, fourth] = rows.map(({ id }) => id) as [string, string, string, string];
    runs.update(first, { state: 'closed', outcome: 'lost' });
    const ids = (filter: Parameters<typeof runs.list>[0]): string[] => runs.list(filter).map(({ id }) => id);
    expect(ids({ team: 'a', limit: 10 })).toEqual([third, second, first]);
    expect(ids({ team: 'a', state: 'open', limit: 1 })).toEqual([third]);
    expect(ids({ team: 'a', before: third, limit: 10 })).toEqual([second, first]);
    expect(ids({ name: 'r4', limit: 10 })).toEqual([fourth]);
    expect([runs.countOpen({ team: 'a' }), runs.countOpen({ keyId: 'k' }), runs.countOpen()]).toEqual([2, 3, 3]);
  });

  test('that are open have a name for themselves in their team', () => {
    const { runs } = store();
    const row = runRow({ name: 'fix' });
    runs.insert(row);
    expect(() => runs.insert(runRow({ name: 'fix' }))).toThrow(/has an open run with the name "fix"/);
    runs.insert(runRow({ name: 'fix', team: 'b' }));
    runs.update(row.id, { state: 'closed' });
    runs.insert(runRow({ name: 'fix' }));
  });

  test('remember who made calls in them, and forget all that hangs on them when they go', () => {
    const { runs, verdicts } = store();
    const row = runRow();
    runs.insert(row);
    for (const identity of ['bot', 'bot', 'eve']) runs.addCaller(row.id, identity);
    expect(runs.callers(row.id)).toEqual(new Set(['bot', 'eve']));
    const answer = { approvalId: newId(), runId: row.id, identity: 'ada', approve: true, reason: '', at: '2026-01-01' };
    expect(verdicts.add(answer)).toBe(true);
    expect(verdicts.add({ ...answer, approve: false })).toBe(false);
    expect(verdicts.of(answer.approvalId)).toEqual([answer]);
    runs.remove(row.id);
    expect([runs.find(row.id), runs.callers(row.id).size, verdicts.of(answer.approvalId)]).toEqual([undefined, 0, []]);
  });
});

describe('a request to open a run', () => {
  const request = { team: 'a', identity: 'ada', key: 'ci-1', digest: digestOf('body') };

  test('opens one, however often it is sent', () => {
    const { requests, runs } = store();
    const row = runRow();
    expect(requests.begin(request, row)).toEqual({ kind: 'begun', runId: row.id });
    expect(requests.begin(request, runRow())).toEqual({ kind: 'known', runId: row.id });
    expect(runs.list({ limit: 10 })).toHaveLength(1);
  });

  test('under the name of another request is refused; of another identity it is another one', () => {
    const { requests } = store();
    requests.begin(request, runRow());
    expect(() => requests.begin({ ...request, digest: digestOf('other') }, runRow())).toThrow(
      /was used for another request/,
    );
    expect(requests.begin({ ...request, identity: 'eve' }, runRow()).kind).toBe('begun');
    expect(requests.begin({ ...request, team: 'b' }, runRow({ team: 'b' })).kind).toBe('begun');
  });

  test('that failed may be sent again', () => {
    const { requests } = store();
    const row = runRow();
    requests.begin(request, row);
    requests.forget(row.id);
    expect(requests.begin(request, runRow()).kind).toBe('begun');
  });
});
