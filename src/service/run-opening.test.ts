import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { scopes } from '../store/key-row.ts';
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
