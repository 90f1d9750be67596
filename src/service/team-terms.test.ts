import { afterAll, beforeAll, expect, test } from 'vitest';
import { isRunnerError } from '../errors.ts';
import { scopes, standardQuota, type Quota } from '../store/key-row.ts';
import { FakeService } from './fake-runner.fixture.ts';
import { TeamTerms, type Terms } from './team-terms.ts';

let fake: FakeService;
beforeAll(async () => {
  fake = await FakeService.open();
});
afterAll(() => fake.close());

function key(team: string, quota: Partial<Quota> = {}, expiresAt: string | null = null): string {
  const own = { ...standardQuota, ...quota };
  const draft = { team, identity: 'ann', scopes: [...scopes], policies: ['default'], quota: own, expiresAt };
  return fake.store.keys.create(draft).secret;
}

/** As if none had been asked for before. */
function terms(team: string): Terms {
  return new TeamTerms(fake.store).find(team);
}

test('keys of a team of which nothing was said have together what one of them may have', async () => {
  const { service } = fake;
  const keys = [key('red'), key('red'), key('red')].map((secret) => service.authenticate(secret));
  const refused: unknown[] = [];
  let opened = 0;
  for (let n = 0; n < 24; n++) {
    const who = keys[n % 3];
    if (who === undefined) continue;
    await service.openRun(who, { policy: { name: 'default' } }).then(
      () => (opened += 1),
      (error: unknown) => refused.push(error),
    );
  }
  expect(opened).toBeLessThanOrEqual(standardQuota.openRuns);
  expect(refused[0]).toMatchObject({ message: expect.stringContaining('team red has') as string });
  expect(isRunnerError(refused[0], 'rate_limited')).toBe(true);
});

test('that is the largest of its live keys, of each bound, and no less than the usual', () => {
  expect(terms('blue')).toEqual({ weight: 1, quota: standardQuota });
  key('blue', { openRuns: 1, callsPerMinute: 5_000 });
  const large = key('blue', { openRuns: 30 });
  key('blue', { openRuns: 40 }, new Date(Date.now() + 60_000).toISOString());
  expect(terms('blue').quota).toEqual({ ...standardQuota, openRuns: 40, callsPerMinute: 5_000 });
  fake.clock.aheadMs = 61_000;
  expect(terms('blue').quota).toEqual({ ...standardQuota, openRuns: 30, callsPerMinute: 5_000 });
  fake.store.keys.revoke(large.split('_')[1] ?? '');
  expect(terms('blue').quota).toEqual({ ...standardQuota, callsPerMinute: 5_000 });
  fake.clock.aheadMs = 0;
});

test('what was said of a team holds as it is, and nobody bounds the owner of the machine', () => {
  const said = { team: 'green', weight: 3, quota: { ...standardQuota, openRuns: 2 } };
  fake.store.teams.set(said);
  key('green', { openRuns: 30 });
  expect(terms('green')).toMatchObject({ weight: 3, quota: said.quota });
  expect(terms(fake.service.local().team).quota).toBeUndefined();
});
