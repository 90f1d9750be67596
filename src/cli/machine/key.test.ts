import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { Api, type KeyOptions } from '../../api/api.fixture.ts';
import { ApiServer } from '../../api/server.ts';
import { answerJson, FakeService } from '../../client/service.fixture.ts';
import { DataDir } from '../../data-dir/data-dir.ts';
import { ServiceLock } from '../../service/service-lock.ts';
import type { KeyRow } from '../../store/key-row.ts';
import { Store } from '../../store/store.ts';
import type { CliContext } from '../context.ts';
import { runCli } from '../program.ts';

let dir: string;
let out: string;
let err: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'glovebox-key-'));
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => ((out += String(text)), true));
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => ((err += String(text)), true));
});
afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  await rm(dir, { recursive: true, force: true });
});

const none = (): Promise<never> => Promise.reject(new Error('needs no engine'));

async function cli(...argv: string[]): Promise<number> {
  [out, err] = ['', ''];
  const context: CliContext = { connect: none, reach: none, openDataDir: () => DataDir.open(dir) };
  return runCli(['node', 'glovebox', ...argv], context);
}

const create = ['key', 'create', '--team', 'a', '--identity', 'ada'];

describe('glovebox key', () => {
  test('prints the secret of a new key once, and nothing else on stdout; it works at once beside a service', async () => {
    const lock = await ServiceLock.acquire((await DataDir.open(dir)).path);
    const service = Store.open(dir);
    expect(await cli(...create, '--policy', 'ci', '--open-runs', '3', '--cpus', '1.5')).toBe(0);
    const secret = out.trim();
    const row = service.keys.find(secret);
    expect(row).toMatchObject({ team: 'a', identity: 'ada', scopes: ['run:open', 'call', 'read'], policies: ['ci'] });
    expect(row?.quota).toMatchObject({ openRuns: 3, cpuMillis: 1500, callsPerMinute: 1200 });
    const days = (Date.parse(row?.expiresAt ?? '') - Date.now()) / 86_400_000;
    expect(Math.round(days)).toBe(90);
    expect(await cli('key', 'ls')).toBe(0);
    expect(out).toMatch(/ada {2,}run:open,call,read {2,}ci {2,}until/);
    expect(`${out}${err}`).not.toContain(secret.slice(31));
    expect(await cli('key', 'revoke', row?.id.slice(0, 20) ?? '')).toBe(0);
    expect(service.keys.find(secret)).toBeUndefined();
    expect(await cli('key', 'ls')).toBe(0);
    expect(out).toContain('revoked 20');
    service.close();
    await lock.release();
  });

  test('says it all as JSON', async () => {
    await cli(...create, '--scope', 'approve', 'read', '--expires', 'never', '--json');
    const made = JSON.parse(out) as KeyRow & { secret: string };
    expect(made).toMatchObject({ scopes: ['approve', 'read'], policies: [], expiresAt: null, secret: /^gbx_/ });
    await cli('key', 'ls', '--json', '--team', 'a');
    const { secret: _, ...row } = made;
    expect(JSON.parse(out)).toEqual([row]);
    await cli('key', 'ls', '--json', '--team', 'b');
    expect(JSON.parse(out)).toEqual([]);
  });

  test.each<[string, readonly string[], RegExp]>([
    ['a key that opens runs with no policy', create, /--policy NAME, or --any-policy/],
    ['a scope that is none', [...create, '--scope', 'root'], /Allowed choices/],
    ['an expiry without a unit', [...create, '--any-policy', '--expires', '90'], /--expires.*a duration with its unit/],
    ['processors that are no number', [...create, '--any-policy', '--cpus', 'all'], /--cpus all/],
    ['a name for a team that is a path', ['key', 'create', '-t', '../x', '-i', 'ada', '--any-policy'], /team/],
    ['a revocation of no key', ['key', 'revoke', 'x'], /fits 0 keys/],
    ['a revocation of every key', ['key', 'revoke', ''], /fits 0 keys/],
  ])('refuses %s', async (_, argv, message) => {
    expect(await cli(...argv)).toBeGreaterThan(0);
    expect(err).toMatch(message);
    await cli('key', 'ls', '--json');
    expect(out).toBe('[]\n');
  });

  test('revokes none of those that are named, where one of the names is none', async () => {
    await cli(...create, '--any-policy', '--json');
    const { id } = JSON.parse(out) as KeyRow;
    expect(await cli('key', 'revoke', id, 'x')).toBe(125);
    await cli('key', 'ls', '--json');
    expect(JSON.parse(out)).toMatchObject([{ id, revokedAt: null }]);
  });
});

describe('glovebox key at the service that is given', () => {
  let api: Api;
  let server: ApiServer;
  let url: string;
  beforeAll(async () => {
    api = await Api.open();
    server = new ApiServer(api.app);
    const bound = await server.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 });
    url = bound.kind === 'tcp' ? `http://127.0.0.1:${bound.port}` : '';
  });
  afterAll(async () => {
    await server.close(0);
    await api.close();
  });
  /** From then on the command line has this key, and what it says is of its service. */
  const useKey = (options: KeyOptions): void => {
    vi.stubEnv('GLOVEBOX_URL', url);
    vi.stubEnv('GLOVEBOX_KEY', api.key(options));
  };
  const statusWith = async (secret: string): Promise<number> => (await api.ask(secret, 'GET', '/v1/runs')).status;

  test('makes one that holds at once, shows it without its secret, and revokes it; this machine has no part in it', async () => {
    useKey({ team: 'one', scopes: ['admin', 'read', 'call', 'run:open'] });
    const argv = ['key', 'create', '--team', 'one', '--identity', 'bot', '--policy', 'default', '--open-runs', '2'];
    expect([await cli(...argv), err]).toMatchObject([0, /^key \w{26} of bot, team one: run:open, call, read; until 2/]);
    expect(err).not.toContain('of this machine');
    const secret = out.trim();
    expect(await statusWith(secret)).toBe(200);
    const row = api.fake.store.keys.find(secret);
    expect(await cli('key', 'ls', '--json')).toBe(0);
    expect(JSON.parse(out)).toMatchObject([{ identity: 'ann' }, row]);
    expect(await cli('key', 'ls')).toBe(0);
    expect(out).toMatch(/bot {2,}run:open,call,read {2,}default {2,}until .* 2 runs, /);
    expect(out).not.toContain(secret.slice(31));
    expect(await cli('key', 'revoke', row?.id ?? '')).toBe(0);
    expect(out).toMatch(/^revoked \w{26} of bot, team one \(2/);
    expect(await statusWith(secret)).toBe(401);
    expect(await readdir(dir)).toEqual([]);
  });

  test('makes one for no longer than the key in use holds, where nothing was said of it', async () => {
    const expiresAt = new Date(Date.now() + 86_400_000).toISOString();
    useKey({ team: 'seven', expiresAt });
    const argv = ['key', 'create', '-t', 'seven', '-i', 'ann', '-s', 'read', '--json'];
    expect([await cli(...argv), err]).toEqual([0, '']);
    expect(JSON.parse(out)).toMatchObject({ expiresAt });
  });

  test('has no key of another team, by whatever beginning', async () => {
    const theirs = api.key({ team: 'three' });
    const id = theirs.split('_')[1] ?? '';
    useKey({ team: 'two' });
    await cli('key', 'ls', '--json');
    expect(JSON.parse(out)).toMatchObject([{ team: 'two' }]);
    for (const name of [id, id.slice(0, 25)]) {
      expect(await cli('key', 'revoke', name)).toBe(125);
      expect(err).toMatch(/fits 0 keys; glovebox key ls/);
    }
    expect(await statusWith(theirs)).toBe(200);
  });

  const bounded = { team: 'four', scopes: ['admin', 'read', 'approve'], quota: { openRuns: 30 } } as const;
  test.each<[string, KeyOptions, readonly string[], RegExp]>([
    ['for another team', bounded, ['-t', 'five'], /cannot give team "five".*give less, or have the owner/],
    ['for another identity, where it answers approvals', bounded, ['-i', 'eve'], /the identity "eve"/],
    ['with a scope that it does not have', bounded, ['-s', 'call'], /the scope call/],
    ['with the answering of approvals', bounded, ['-s', 'approve'], /the scope approve/],
    ['with more runs than it has', bounded, ['--open-runs', '31'], /31 openRuns, where its own is 30/],
    [
      'for longer than it holds itself',
      { ...bounded, expiresAt: new Date(Date.now() + 86_400_000).toISOString() },
      ['--expires', '2d'],
      /a time beyond 2.*, when it expires itself/,
    ],
    ['without the scope for it', { ...bounded, scopes: ['read'] }, [], /a key with the scope admin; .* has read/],
  ])('is refused one %s, and told why', async (_, options, more, message) => {
    useKey(options);
    const before = api.fake.store.keys.list();
    expect(await cli('key', 'create', '-t', 'four', '-i', 'ann', '-s', 'read', ...more)).toBe(125);
    expect(err).toMatch(message);
    expect(err).toContain('[forbidden]');
    expect(api.fake.store.keys.list()).toEqual(before);
  });

  test.each([
    [['key', 'create', '-t', '../x', '-i', 'a b', '-s', 'read']],
    [['key', 'create', '-t', 'a', '-i', 'ada', '--policy', '../x']],
    [['key', 'revoke', 'x']],
  ])('says of what cannot be the same as at the data directory: %j', async (argv) => {
    expect(await cli(...argv)).toBe(125);
    const here = err;
    useKey({ team: 'six' });
    expect(await cli(...argv)).toBe(125);
    expect(err).toBe(here);
  });

  test('shows nothing of what a service answers that is no key', async () => {
    await using fake = await FakeService.start((_, response) => answerJson(response, { keys: [{ id: '\u001b[2J' }] }));
    vi.stubEnv('GLOVEBOX_URL', `unix:${fake.socketPath}`);
    expect(await cli('key', 'ls')).toBe(125);
    expect([out, err]).toMatchObject(['', /keys in another form/]);
  });
});

test('glovebox team says what a team may have; what is left out stays', async () => {
  await cli('team', 'set', 'a', '--open-runs', '5', '--disk', '10GiB');
  expect(await cli('team', 'set', 'a', '--weight', '3')).toBe(0);
  await cli('team', 'ls', '--json');
  const quota = { openRuns: 5, callsPerMinute: 1200, cpuMillis: 40_000, diskBytes: 10 * 1024 ** 3 };
  expect(JSON.parse(out)).toEqual([{ team: 'a', weight: 3, quota }]);
});

test('glovebox state repairs only what nobody serves', async () => {
  await cli(...create, '--any-policy');
  expect([await cli('state', 'check'), out]).toEqual([0, `${join(dir, 'state.db')} is whole\n`]);
  const lock = await ServiceLock.acquire(dir);
  expect(await cli('state', 'repair')).toBe(125);
  expect(err).toContain(`is served by process ${process.pid}`);
  await lock.release();
  expect(await cli('state', 'repair')).toBe(0);
  await cli('key', 'ls', '--json');
  expect(JSON.parse(out)).toMatchObject([{ identity: 'ada' }]);
});
