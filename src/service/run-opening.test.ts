import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { scopes } from '../store/key-row.ts';
import { BaseStore } from '../workspace/base/bases.ts';
import { selectFiles } from '../workspace/base/select.ts';
import { BlobStore } from '../workspace/blobs.ts';
import { Scope } from '../workspace/scope/scope.ts';
import { FakeService } from './fake-runner.fixture.ts';
import type { Principal } from './principal.ts';

let fake: FakeService;
beforeAll(async () => {
  fake = await FakeService.open();
});
afterAll(() => fake.close());

test('a run that the store cannot take is closed, and so are forks', async () => {
  const { service, store, runner } = fake;
  const owner = service.local();
  const policy = { name: 'default' };
  const { id } = await service.openRun(owner, { policy });
  const full = new Error('database or disk is full');
  vi.spyOn(store.runs, 'update').mockImplementation(() => {
    throw full;
  });
  await expect(service.openRun(owner, { policy })).rejects.toThrow(full);
  await expect(service.fork(owner, id, { count: 2 })).rejects.toThrow(full);
  vi.restoreAllMocks();
  const closed = [...runner.runs.values()].map((run) => run.candidate !== undefined);
  expect(closed).toEqual([false, true, true, true]);
});

test('a fork for another class of a policy that was sent along names no more of this machine than the run did', async () => {
  const { service, store } = fake;
  const draft = { team: 'green', identity: 'gil', scopes: [...scopes], policies: 'any', expiresAt: null } as const;
  const sender = service.authenticate(store.keys.create(draft).secret);
  const text = `apiVersion: glovebox/v1
kind: Policy
name: own
images: [base]
files: {read: ["**"]}
credentials: {gh: {source: "env:TOKEN", host: api.example.org}}
egress: {profiles: {api: [{id: a, host: [api.example.org], tls: terminate, credential: gh}]}}
classes: {look: {egress: []}, ship: {egress: [api]}}
`;
  const { id } = await service.openRun(sender, { policy: { text }, taskClass: 'look' });
  await expect(service.openRun(sender, { policy: { text }, taskClass: 'ship' })).rejects.toThrow(/credential gh/);
  const fork = service.fork(sender, id, { count: 1, taskClass: 'ship' });
  await expect(fork).rejects.toMatchObject({ code: 'forbidden', message: /credential gh/ });
  await service.fork(sender, id, { count: 1, taskClass: 'look' });
});

test('one team leaves half of the runs that there may be to others that have keys', async () => {
  const shared = await FakeService.open({ runsMax: 4 });
  const { service, store } = shared;
  const key = (team: string): Principal => {
    const draft = { team, identity: 'ann', scopes: [...scopes], policies: ['default'], expiresAt: null };
    return service.authenticate(store.keys.create(draft).secret);
  };
  const open = async (who: Principal): Promise<string> =>
    (await service.openRun(who, { policy: { name: 'default' } })).id;
  const [red, other] = [key('red'), key('red')];
  const ids = [await open(red), await open(other), await open(red)];
  const blue = key('blue');
  const full = expect.stringContaining('team red has 3 of 4 runs open') as string;
  await expect(open(other)).rejects.toMatchObject({ code: 'queue_full', message: full });
  await expect(service.fork(red, ids[0] ?? '', { count: 1 })).rejects.toMatchObject({ message: full });
  await open(blue);
  await service.closeRun(red, ids[0] ?? '', { reason: 'finished', summary: '' });
  await expect(open(red)).rejects.toMatchObject({ code: 'queue_full' });
  await open(blue);
  await shared.close();
});

describe("what a workspace's repository says of runs on it", () => {
  const text = 'apiVersion: glovebox/v1\nkind: Policy\nname: own\nimages: [base]\nfiles: { read: ["**"] }\n';
  const ruled = (calls: number): string =>
    `apiVersion: glovebox/v1\nkind: Policy\nname: repo\nbudget: {max_actions_per_run: ${calls}}\n`;
  let root: string;
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'glovebox-narrowed-'));
    const git = (...argv: string[]) =>
      execa('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.org', ...argv], { cwd: root });
    await git('init', '-q');
    await mkdir(join(root, '.glovebox'));
    await writeFile(join(root, '.glovebox/policy.yaml'), ruled(7));
    await git('add', '-A');
    await git('commit', '-qm', 'policy');
    await writeFile(join(root, '.glovebox/policy.yaml'), ruled(9));
  });
  afterAll(() => rm(root, { recursive: true, force: true }));

  const callsOf = async (asked: object, policy: object): Promise<number> => {
    const { id } = await fake.service.openRun(fake.service.local(), { policy, ...asked } as never);
    return fake.runner.get(id).policy.policy.budget.maxActionsPerRun;
  };
  const budget = 'budget: { max_actions_per_run: 50 }\n';

  test('holds for a policy by name and for one that is sent as text, which opens nothing by it', async () => {
    expect(await callsOf({ workspace: root }, { name: 'default' })).toBe(7);
    expect(await callsOf({ workspace: root }, { text: `${text}${budget}` })).toBe(7);
    expect(await callsOf({}, { text: `${text}${budget}` })).toBe(50);
    const tighter = callsOf({ workspace: root }, { text: `${text}budget: { max_actions_per_run: 5 }\n` });
    await expect(tighter).rejects.toMatchObject({ code: 'invalid_policy' });
  });

  test('holds for a base of it as well: as it is committed there now, else as it was imported', async () => {
    const { dataDir } = fake.service;
    const bases = await BaseStore.open(dataDir.basesDir);
    const scope = Scope.compile({ read: ['**'], write: [], scratch: [], deny: [] });
    const selection = await selectFiles(root, scope, {});
    const blobs = await BlobStore.open(dataDir.blobsDir);
    const { base } = await bases.hold('0'.repeat(26), selection, scope, blobs, {});
    expect(await callsOf({ base: base.key }, { text: `${text}${budget}` })).toBe(7);
    await rm(root, { recursive: true });
    expect(await callsOf({ base: base.key }, { text: `${text}${budget}` })).toBe(9);
  });

  test('is not to be had by a base that somebody else imported', async () => {
    const key = fake.store.keys.create({
      team: 'red',
      identity: 'ann',
      scopes: [...scopes],
      policies: 'any',
      expiresAt: null,
    }).secret;
    const opened = fake.service.openRun(fake.service.authenticate(key), {
      policy: { name: 'default' },
      base: 'a'.repeat(64),
    });
    await expect(opened).rejects.toMatchObject({ code: 'forbidden' });
  });
});
