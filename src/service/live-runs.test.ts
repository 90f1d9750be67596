import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { scopes, standardQuota } from '../store/key-row.ts';
import { FakeService } from './fake-runner.fixture.ts';
import type { Principal } from './principal.ts';

let fake: FakeService;
let who: Principal;
beforeEach(async () => {
  fake = await FakeService.open();
  const draft = { team: 'red', identity: 'ann', scopes: [...scopes], policies: ['default'], expiresAt: null };
  const { secret } = fake.store.keys.create({ ...draft, quota: { ...standardQuota, openRuns: 1 } });
  who = fake.service.authenticate(secret);
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
});
afterEach(async () => {
  vi.useRealTimers();
  await fake.close();
});

const open = async (): Promise<string> => (await fake.service.openRun(who, { policy: { name: 'default' } })).id;

/** A run that could not be closed; nor could what is left of it be removed. */
async function stuck(): Promise<string> {
  const id = await open();
  fake.runner.get(id).stuck = new Error('the engine does not answer');
  fake.runner.removals.error = new Error('nor does it now');
  const closing = fake.service.closeRun(who, id, { reason: 'finished', summary: '' });
  await expect(closing).rejects.toThrow('the engine does not answer');
  return id;
}

test('a run that could not be closed counts until what is left of it is removed', async () => {
  const id = await stuck();
  expect(fake.service.openRuns).toBe(1);
  await expect(open()).rejects.toMatchObject({ code: 'rate_limited' });
  await vi.advanceTimersByTimeAsync(30_000);
  expect(fake.service.openRuns).toBe(1);
  fake.runner.removals.error = undefined;
  await vi.advanceTimersByTimeAsync(30_000);
  expect(fake.service.openRuns).toBe(0);
  expect(fake.service.getRun(who, id)).toMatchObject({ state: 'closed', outcome: 'failed' });
  await open();
});

test('one that was closed on record, and whose sandbox alone was in the way, is what its journal says', async () => {
  const id = await open();
  fake.runner.get(id).stuck = new Error('the engine does not answer');
  fake.runner.get(id).outcome = 'finished';
  await expect(fake.service.closeRun(who, id, { reason: 'finished', summary: '' })).rejects.toThrow();
  await expect.poll(() => fake.service.openRuns).toBe(0);
  expect(fake.service.getRun(who, id)).toMatchObject({ state: 'closed', outcome: 'finished' });
});

test('a run that was stopped from within is closed, and its place is free', async () => {
  const id = await open();
  void fake.runner.get(id).close('failed', 'stopped: it asked for too many names');
  await expect.poll(() => fake.service.openRuns).toBe(0);
  const summary = 'stopped: it asked for too many names';
  expect(fake.service.getRun(who, id)).toMatchObject({ state: 'closed', outcome: 'failed', summary });
  const late = fake.service.calls.make(who, id, 'late', { tool: 'exec', script: 'true' });
  await expect(late).rejects.toMatchObject({ code: 'run_not_open', message: /is closed: stopped: it asked/ });
  await open();
});

test('that is tried again for a bounded number of times', async () => {
  await stuck();
  await vi.advanceTimersByTimeAsync(3_600_000);
  expect(fake.runner.removals.asked).toBe(10);
  expect(fake.service.openRuns).toBe(0);
});
