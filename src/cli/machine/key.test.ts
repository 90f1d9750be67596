import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
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
