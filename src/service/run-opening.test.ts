import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { FakeService } from './fake-runner.fixture.ts';

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
