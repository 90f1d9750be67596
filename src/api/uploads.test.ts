import { execFileSync } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packWorkspace } from '../cli/drive/pack-workspace.ts';
import type { Problem } from '../contract/problem.ts';
import type { WorkspaceView } from '../contract/workspace-view.ts';
import { newId } from '../ids.ts';
import { Uploads } from '../service/uploads.ts';
import { writeTar } from '../tools/archive/write-tar.ts';
import { Api } from './api.fixture.ts';

const type = { 'content-type': 'application/x-tar' };
const entry = (path: string, content = '', mode = 0o644) =>
  ({ path, type: 'file', mode, content: Buffer.from(content), target: '' }) as const;
const link = (path: string, target: string) =>
  ({ path, type: 'symlink', mode: 0o777, content: Buffer.alloc(0), target }) as const;

let api: Api;
let key: string;
beforeAll(async () => {
  api = await Api.open();
  key = api.key();
});
afterAll(() => api.close());

const place = (): string => join(api.fake.directory, 'workspaces');
const send = (tar: Uint8Array | ReadableStream, who = key): Promise<Response> =>
  api.ask(who, 'POST', '/v1/workspaces', tar, type);

async function sent(tar: Uint8Array | ReadableStream, who = key): Promise<WorkspaceView> {
  const answer = await send(tar, who);
  expect(answer.status, await answer.clone().text()).toBe(201);
  return (await answer.json()) as WorkspaceView;
}

describe('an uploaded workspace', () => {
  test('is opened by its id, with the files that were sent: owners and odd modes are not carried', async () => {
    const tar = writeTar([entry('a/run.sh', 'echo hi\n', 0o755), entry('b', 'x', 0o600), link('a/l', 'run.sh')]);
    const view = await sent(tar);
    expect(view).toMatchObject({ files: 2, bytes: 9 });
    expect(Date.parse(view.expiresAt) - Date.now()).toBeGreaterThan(23 * 3_600_000);
    await api.open(key, { uploaded: view.id });
    const tree = api.fake.runner.asked?.workspace ?? '';
    expect(readFileSync(join(tree, 'a/run.sh'), 'utf8')).toBe('echo hi\n');
    expect([lstatSync(join(tree, 'a/run.sh')).mode & 0o777, lstatSync(join(tree, 'b')).mode & 0o777]).toEqual([
      0o755, 0o644,
    ]);
    expect(readlinkSync(join(tree, 'a/l'))).toBe('run.sh');
    const { workspaces } = (await (await api.ask(key, 'GET', '/v1/workspaces')).json()) as {
      workspaces: WorkspaceView[];
    };
    expect(workspaces.map(({ id }) => id)).toContain(view.id);
    expect((await api.ask(key, 'DELETE', `/v1/workspaces/${view.id}`)).status).toBe(204);
    expect((await api.ask(key, 'POST', '/v1/runs', { uploaded: view.id })).status).toBe(404);
    expect(readdirSync(place())).not.toContain(view.id);
  });

  test('has directories that the archive does not name, however deep: tar of what git tracks names files alone', async () => {
    const named = await sent(writeTar([entry('a/b/c/d.txt', 'deep'), entry('a/b/e', 'x'), entry('f/g/h/i', 'y')]));
    await api.open(key, { uploaded: named.id });
    const tree = api.fake.runner.asked?.workspace ?? '';
    expect(readFileSync(join(tree, 'a/b/c/d.txt'), 'utf8')).toBe('deep');
    expect(readdirSync(join(tree, 'f/g/h'))).toEqual(['i']);
    expect(lstatSync(join(tree, 'a/b')).mode & 0o777).toBe(0o755);
  });

  test('is kept once for a team, however often and in whatever pieces it comes', async () => {
    const tar = writeTar([entry('same', 'z'.repeat(100_000))]);
    const first = await sent(tar);
    const pieces = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let at = 0; at < tar.length; at += 777) controller.enqueue(tar.subarray(at, at + 777));
        controller.close();
      },
    });
    expect((await sent(pieces)).id).toBe(first.id);
    const theirs = await sent(tar, api.key({ team: 'blue' }));
    expect([theirs.digest, theirs.id === first.id]).toEqual([first.digest, false]);
  });

  test("of another team is answered as one that does not exist, and is not in one's list", async () => {
    const { id } = await sent(writeTar([entry('secret', 'red')]));
    const stranger = api.key({ team: 'green' });
    const refusal = async (method: string, path: string, of: string, body?: object): Promise<unknown> => {
      const answer = await api.ask(stranger, method, path, body);
      const { detail, requestId: _, ...rest } = (await answer.json()) as Problem;
      return { ...rest, detail: detail.replaceAll(of, 'ID') };
    };
    const none = newId();
    const opened = await refusal('POST', '/v1/runs', id, { uploaded: id });
    expect(opened).toMatchObject({ status: 404, code: 'not_found' });
    expect(opened).toEqual(await refusal('POST', '/v1/runs', none, { uploaded: none }));
    const path = (of: string): string => `/v1/workspaces/${of}`;
    expect(await refusal('DELETE', path(id), id)).toEqual(await refusal('DELETE', path(none), none));
    expect(await (await api.ask(stranger, 'GET', '/v1/workspaces')).json()).toEqual({ workspaces: [] });
    await api.open(key, { uploaded: id });
  });

  test('narrows runs by the policy of its own that is in it, also where the policy is sent as text', async () => {
    const own = 'apiVersion: glovebox/v1\nkind: Policy\nname: repo\nbudget: {max_actions_per_run: 7}\n';
    const { id } = await sent(writeTar([entry('.glovebox/policy.yaml', own)]));
    const { id: run } = await api.open(key, { uploaded: id });
    expect(api.fake.runner.get(run).policy.policy.budget.maxActionsPerRun).toBe(7);
    const linked = await sent(writeTar([entry('p.yaml', own), link('.glovebox/policy.yaml', '../p.yaml')]));
    const { id: other } = await api.open(key, { uploaded: linked.id });
    expect(api.fake.runner.get(other).policy.policy.budget.maxActionsPerRun).toBe(50);
  });

  test('goes when no run was opened from it for a day, and so does what was half sent', async () => {
    const { uploads } = api.fake.service.dataDir;
    const { id } = await sent(writeTar([entry('old', 'o')]));
    const { partial } = await uploads.begin();
    const hourMs = 3_600_000;
    expect(await uploads.expire(Date.now() + 23 * hourMs)).toEqual([]);
    expect(await uploads.expire(Date.now() + 25 * hourMs, { dryRun: true })).toContain(id);
    expect(readdirSync(place())).toContain(id);
    await uploads.expire(Date.now() + 25 * hourMs);
    expect(readdirSync(place())).toEqual(['.gitignore']);
    expect(partial).toContain('.partial-');
  });
});

describe('an upload that is refused leaves nothing', () => {
  const bad = (name: string, tar: Buffer, code = 'archive_refused', status = 422) => [name, tar, code, status] as const;
  const gzip = Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0]), Buffer.alloc(1020)]);
  const out = writeTar([entry('ok', 'x')]);
  out.write('../../x\0', 0, 'latin1');
  test.each([
    bad('a link that leads out', writeTar([link('l', '../../etc')])),
    bad('a file through a link', writeTar([entry('e/y'), link('d', 'e'), entry('d/x', 'x')])),
    bad('a link after the directory that it replaces', writeTar([entry('d/x', 'x'), link('d', 'e')])),
    bad('a name that is there twice', writeTar([entry('a', '1'), entry('a', '2')])),
    bad('a name that leads out', out),
    bad('a repository', writeTar([entry('.git/config', '[core]\n\tfsmonitor = touch /tmp/x\n')])),
    bad('a repository below, in other letters', writeTar([entry('sub/.GIT', 'gitdir: /srv/other\n')])),
    bad('a compressed one', gzip),
    bad('half of one', writeTar([entry('a', 'x'.repeat(5000))]).subarray(0, 2048)),
    bad('nothing', Buffer.alloc(0)),
  ])('%s', async (_, tar, code, status) => {
    const before = readdirSync(place()).sort();
    const answer = await send(tar);
    expect([answer.status, ((await answer.json()) as Problem).code]).toEqual([status, code]);
    expect(readdirSync(place()).sort()).toEqual(before);
  });

  test('one that is too much: of bytes, of entries, of a team, at once; and one on a disk that is nearly full', async () => {
    const { dataDir, room } = api.fake.service;
    const who = api.fake.service.authenticate(api.key({ team: 'cyan' }));
    const stream = async function* (tar: Buffer) {
      yield tar;
    };
    const make = (limits: ConstructorParameters<typeof Uploads>[2]): Uploads =>
      new Uploads(dataDir.uploads, room, limits);
    const tar = writeTar([entry('a', 'xx'), entry('b', 'yy')]);
    const refused = { code: 'archive_refused' };
    await expect(make({ bytesMax: 3 }).receive(who, stream(tar))).rejects.toMatchObject(refused);
    await expect(make({ entriesMax: 1 }).receive(who, stream(tar))).rejects.toMatchObject(refused);
    await make({}).receive(who, stream(tar));
    await expect(make({ teamCountMax: 1 }).receive(who, stream(tar))).rejects.toMatchObject({ code: 'limit_exceeded' });
    await expect(make({ teamBytesMax: 600, bytesMax: 500 }).receive(who, stream(tar))).rejects.toMatchObject({
      code: 'limit_exceeded',
    });
    const busy = make({ teamAtOnce: 1 });
    let go: () => void = () => undefined;
    const slow = async function* (): AsyncGenerator<Uint8Array> {
      await new Promise<void>((resolve) => (go = resolve));
      yield tar;
    };
    const first = busy.receive(who, slow());
    await expect
      .poll(() => go !== undefined && readdirSync(place()).some((name) => name.startsWith('.partial-')))
      .toBe(true);
    await expect(busy.receive(who, stream(tar))).rejects.toMatchObject({ code: 'queue_full' });
    go();
    await first;
    await busy.receive(who, stream(tar));
    api.fake.clock.freeBytes = 1;
    await expect
      .poll(() => busy.receive(who, stream(tar)).catch((error: unknown) => error))
      .toMatchObject({
        code: 'insufficient_storage',
      });
    api.fake.clock.freeBytes = 1e12;
    await expect.poll(() => room.look().then(() => room.isLow)).toBe(false);
  });

  test('a body that says it is longer than may be, before it is sent', async () => {
    const answer = await api.ask(key, 'POST', '/v1/workspaces', new Uint8Array(1), {
      ...type,
      'content-length': '999999999999',
    });
    expect(answer.status).toBe(413);
  });
});

test('what a client packs is what git would bring in, and comes out the same', async () => {
  const root = mkdtempSync(join(tmpdir(), 'glovebox-pack-'));
  try {
    mkdirSync(join(root, 'src'));
    writeFileSync(join(root, 'src/a.txt'), 'a'.repeat(70_000));
    writeFileSync(join(root, '.gitignore'), 'secret\n');
    writeFileSync(join(root, 'secret'), 's');
    writeFileSync(join(root, `${'n'.repeat(120)}.txt`), 'long');
    symlinkSync('src/a.txt', join(root, 'link'));
    execFileSync('git', ['init', '-q'], { cwd: root });
    const pieces: Uint8Array[] = [];
    for await (const piece of packWorkspace(root)) pieces.push(piece);
    const view = await sent(Buffer.concat(pieces));
    const tree = (await api.fake.service.uploads.use(api.fake.service.authenticate(key), view.id)).tree;
    expect(readdirSync(tree).sort()).toEqual(['.gitignore', 'link', `${'n'.repeat(120)}.txt`, 'src'].sort());
    expect(readFileSync(join(tree, 'link'), 'utf8')).toBe('a'.repeat(70_000));
  } finally {
    rmSync(root, { recursive: true });
  }
});
