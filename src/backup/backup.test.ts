import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { machineKeys } from '../bundle/believed-keys.ts';
import { openSigningKey } from '../bundle/signing-key.ts';
import { DataDir } from '../data-dir/data-dir.ts';
import { digestOf } from '../digest.ts';
import { newId } from '../ids.ts';
import { checkJournal } from '../journal/check.ts';
import { Reviews } from '../promotion/reviews.ts';
import { ada, makeRun } from '../store/runs.fixture.ts';
import { syncRuns } from '../store/rebuild.ts';
import { Store } from '../store/store.ts';
import { BlobStore } from '../workspace/blobs.ts';
import { backUp } from './backup.ts';
import { restore } from './restore.ts';
import { compiled } from '../program.fixture.ts';

let root: string;
let dataDir: DataDir;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'glovebox-backup-'));
  dataDir = await DataDir.open(join(root, 'data'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const draft = { team: 'a', identity: 'ada', scopes: ['call'], policies: ['ci'], expiresAt: null } as const;

describe('a backup', () => {
  test('is restored as what it was: keys, teams, runs, outputs and contents', async () => {
    const store = Store.open(dataDir.path);
    const [kept, gone] = [store.keys.create(draft), store.keys.create(draft)];
    store.keys.revoke(gone.row.id);
    const quota = { openRuns: 1, callsPerMinute: 2, cpuMillis: 3, diskBytes: 4 };
    store.teams.set({ team: 'a', quota, weight: 2 });
    const blob = await (await BlobStore.open(dataDir.blobsDir)).put(Buffer.from('content'));
    const dir = await makeRun(dataDir, { by: ada, outputs: { 'c1.out': 'printed' } });
    const open = await makeRun(dataDir, { by: ada, closedMs: null });
    await writeFile(dir.changeSet, JSON.stringify({ digest: blob }));
    await mkdir(join(open.path, 'layer', 'upper'), { recursive: true });
    await writeFile(`${open.journal}.lock.1.2.3.boot`, '');
    for (const secret of [open.kept, `${open.kept}.new`]) await writeFile(secret, '{}');
    const socket = createServer().listen(join(open.path, 'door.sock'));
    await once(socket, 'listening');
    await mkdir(join(dataDir.path, 'promotions', 'p'), { recursive: true });
    for (const name of ['intended.json', 'lock']) await writeFile(join(dataDir.path, 'promotions', 'p', name), '{}');
    await syncRuns(store, dataDir);
    store.close();

    const record = await backUp(dataDir, join(root, 'backup'));
    expect(await readdir(join(root, 'backup', 'promotions', 'p'))).toEqual(['intended.json']);
    socket.close();
    expect(record).toMatchObject({ owner: dataDir.owner, runs: 2, outputs: true });
    const restored = await restore(join(root, 'backup'), join(root, 'new'));
    expect(restored).toMatchObject({ runs: 2, keys: 1, broken: [], damaged: [], dataDir: join(root, 'new') });
    const again = await DataDir.open(join(root, 'new'));
    expect(again.owner).toBe(dataDir.owner);
    const after = Store.open(again.path);
    expect([after.keys.find(kept.secret)?.id, after.keys.find(gone.secret)]).toEqual([kept.row.id, undefined]);
    expect(after.teams.list()).toEqual([{ team: 'a', quota, weight: 2 }]);
    expect(after.runs.list({ limit: 10 }).map(({ id, state }) => [id, state])).toEqual(
      [
        [dir.id, 'closed'],
        [open.id, 'open'],
      ].toSorted(([a = ''], [b = '']) => (a < b ? 1 : -1)),
    );
    after.close();
    const left = (await readdir(again.runDir(open.id).path)).toSorted();
    expect(left).toEqual(['calls', 'journal.ndjson']);
    expect(await readFile(join(again.runDir(dir.id).callsDir, 'c1.out'), 'utf8')).toBe('printed');
    expect(String(await (await BlobStore.open(again.blobsDir)).get(blob))).toBe('content');
    expect((await stat(again.path)).mode & 0o777).toBe(0o700);
    expect((await stat(join(again.path, 'state.db'))).mode & 0o777).toBe(0o600);
  });

  test('has the public half of the signing key: what was signed before counts where it is restored, and nothing else does', async () => {
    const [manifest, key] = [digestOf('a manifest'), await openSigningKey(dataDir.path)];
    const word = {
      bundle: manifest,
      run: newId(),
      verdict: 'accepted',
      by: 'ada',
      reason: '',
      known: 'named',
    } as const;
    const here = new Reviews(dataDir, { machine: await machineKeys(dataDir.path) });
    const kept = await here.add(word, [], key.private);
    const { id, publicPem } = key;
    await backUp(dataDir, join(root, 'backup'), { signedWith: { id, publicPem } });
    expect(await readdir(join(root, 'backup'))).not.toContain('signing-key.pem');
    await restore(join(root, 'backup'), join(root, 'new'));
    const again = await DataDir.open(join(root, 'new'));
    const own = await openSigningKey(again.path);
    expect(own.id).not.toBe(id);
    const there = new Reviews(again, { machine: await machineKeys(again.path) });
    expect(await there.list(manifest)).toEqual([kept]);
    const more = await there.add({ ...word, by: 'grace' }, [], own.private);
    expect(await there.list(manifest)).toEqual([kept, more]);
    await rm(join(again.path, 'believed-keys'), { recursive: true });
    const without = new Reviews(again, { machine: await machineKeys(again.path) });
    await expect(without.list(manifest)).rejects.toThrow(/glovebox signing-key --believe/);
  });

  test('leaves outputs out when it is told to', async () => {
    const dir = await makeRun(dataDir, { by: ada, outputs: { 'c1.out': 'printed' } });
    await writeFile(dir.answers, '{}\n');
    await backUp(dataDir, join(root, 'backup'), { outputs: false });
    await restore(join(root, 'backup'), join(root, 'new'));
    expect(await readdir(join(root, 'new', 'runs', dir.id), { recursive: true })).toEqual(['calls', 'journal.ndjson']);
  });

  test('is never half there, and never in the place of something else', async () => {
    await makeRun(dataDir);
    await backUp(dataDir, join(root, 'backup'));
    await expect(backUp(dataDir, join(root, 'backup'))).rejects.toThrow(/is there already/);
    await writeFile(join(root, 'file'), '');
    await expect(backUp(dataDir, join(root, 'file', 'x'))).rejects.toMatchObject({ code: 'data_dir_unusable' });
    await rm(join(root, 'backup', 'backup.json'));
    await expect(restore(join(root, 'backup'), join(root, 'new'))).rejects.toThrow(/is not a whole backup/);
    expect((await readdir(root)).toSorted()).toEqual(['backup', 'data', 'file']);
  });

  test('is restored into a directory of its own, and what is wrong with it is said', async () => {
    const dir = await makeRun(dataDir, { by: ada });
    const blob = await (await BlobStore.open(dataDir.blobsDir)).put(Buffer.from('content'));
    await backUp(dataDir, join(root, 'backup'));
    await expect(restore(join(root, 'backup'), dataDir.path)).rejects.toThrow(/is not empty/);
    const journal = join(root, 'backup', 'runs', dir.id, 'journal.ndjson');
    await writeFile(journal, (await readFile(journal, 'utf8')).replace('make the tests pass', 'make the tests fail'));
    const file = join(root, 'backup', 'blobs', 'sha256', blob.slice(7, 9), blob.slice(9));
    await rm(file);
    await writeFile(file, 'something else');
    const restored = await restore(join(root, 'backup'), join(root, 'new'));
    expect(restored.broken).toEqual([{ id: dir.id, reason: expect.stringContaining('line 1') as string }]);
    expect(restored.damaged).toEqual([blob.slice(7)]);
  });
});

describe('a backup while a service writes', () => {
  const source = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
  /** Opens runs, calls in them, puts contents and names them, makes keys, closes runs; says each thing once it has returned. */
  const program = `
    import { writeFile } from 'node:fs/promises';
    import { DataDir } from '${source('../data-dir/data-dir.ts')}';
    import { newId } from '${source('../ids.ts')}';
    import { Journal } from '${source('../journal/writer.ts')}';
    import { opened, intended, ended } from '${source('../journal/story.fixture.ts')}';
    import { Store } from '${source('../store/store.ts')}';
    import { BlobStore } from '${source('../workspace/blobs.ts')}';
    const dataDir = await DataDir.open(process.argv[2]);
    const store = Store.open(dataDir.path);
    const blobs = await BlobStore.open(dataDir.blobsDir);
    const say = (what) => process.stdout.write(JSON.stringify(what) + '\\n');
    for (;;) {
      const { secret } = store.keys.create({ team: 'a', identity: 'ada', scopes: ['call'], policies: 'any', expiresAt: null });
      say({ key: secret });
      const dir = await dataDir.createRun(newId());
      store.runs.insert({ id: dir.id, team: 'a', identity: 'ada', keyId: 'k', name: null, state: 'open', policy: 'test', lane: null,
        class: null, openedAt: new Date().toISOString(), closedAt: null, outcome: null, summary: null });
      const journal = await Journal.create(dir.journal, dir.id);
      await journal.append({ ...opened, data: { ...opened.data, by: { team: 'a', identity: 'ada', key: 'k' } } });
      for (let n = 1; n <= 5; n++) {
        const end = await journal.intend(intended('c' + n, n).data);
        const { callId, ...data } = ended('c' + n).data;
        await end(data);
      }
      const digest = await blobs.put(Buffer.from(dir.id));
      await writeFile(dir.changeSet, JSON.stringify({ digest }));
      await journal.append({ type: 'run.closed', data: { outcome: 'finished', summary: '', ...journal.totals, outputBytes: 0, ms: 1 } });
      await journal.close();
      store.runs.update(dir.id, { state: 'closed', outcome: 'finished', closedAt: new Date().toISOString() });
      say({ closed: dir.id });
      await new Promise((resolve) => setTimeout(resolve, 25)); // enough is going on
    }`;

  test('has everything that was acknowledged before it began, whole, and nothing half of what came after', async () => {
    const writer = spawn(process.execPath, [await compiled(program), dataDir.path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const said: { key?: string; closed?: string }[] = [];
    let rest = '';
    const enough = new Promise<void>((resolve) => {
      writer.stdout.on('data', (chunk: Buffer) => {
        const lines = (rest + chunk.toString()).split('\n');
        rest = lines.pop() ?? '';
        said.push(...lines.map((line) => JSON.parse(line) as { key?: string; closed?: string }));
        if (said.length > 20) resolve();
      });
    });
    try {
      await enough;
      for (let round = 0; round < 2; round++) {
        const before = [...said];
        const [backup, target] = [join(root, `backup-${round}`), join(root, `new-${round}`)];
        await backUp(dataDir, backup);
        const restored = await restore(backup, target);
        expect(restored).toMatchObject({ broken: [], damaged: [] });
        const again = await DataDir.open(target);
        const store = Store.open(target);
        for (const { key, closed } of before) {
          if (key !== undefined) expect(store.keys.find(key)?.identity).toBe('ada');
          if (closed !== undefined) expect(store.runs.find(closed)?.state).toBe('closed');
        }
        for (const run of await again.listRuns()) {
          const { verdict } = await checkJournal(run.journal);
          expect(store.runs.find(run.id)?.state).toBe(verdict);
          if (!existsSync(run.changeSet)) continue;
          const text = await readFile(run.changeSet, 'utf8');
          if (text === '') continue; // it was just being written
          const { digest } = JSON.parse(text) as { digest: `sha256:${string}` };
          expect(String(await (await BlobStore.open(again.blobsDir)).get(digest))).toBe(run.id);
        }
        store.close();
        expect(said.length, 'it went on writing').toBeGreaterThan(before.length);
      }
    } finally {
      writer.kill('SIGKILL');
      await once(writer, 'close');
    }
  });
});
