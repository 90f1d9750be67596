import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Problem } from '../contract/problem.ts';
import { Stats } from '../stats/stats.ts';
import { Api } from './api.fixture.ts';

let api: Api;
beforeEach(async () => {
  api = await Api.open();
});
afterEach(() => api.close());

test('a key that may read is told the numbers of its team, in the form of the schema', async () => {
  const answer = await api.ask(api.key({ scopes: ['read'] }), 'GET', '/v1/stats?by=model&since=2026-01-01T00:00:00Z');
  expect(answer.status).toBe(200);
  expect(Stats.parse(await answer.json())).toMatchObject({ by: 'model', from: null, all: { runs: 0 } });
});

test.each(['by=team', 'since=yesterday', 'since=30d', 'teams=all'])(
  '%s is refused before anything is read',
  async (query) => {
    const answer = await api.ask(api.key(), 'GET', `/v1/stats?${query}`);
    expect([answer.status, ((await answer.json()) as Problem).code]).toEqual([400, 'invalid_request']);
  },
);

test('asking counts as a call', async () => {
  const key = api.key({ quota: { callsPerMinute: 1 } });
  expect((await api.ask(key, 'GET', '/v1/stats')).status).toBe(200);
  expect((await api.ask(key, 'GET', '/v1/stats')).status).toBe(429);
});

test('whoever scrapes gets them a little later, with the metrics', async () => {
  const key = api.key({ scopes: ['admin'] });
  const scrape = async (): Promise<string> => (await api.ask(key, 'GET', '/metrics')).text();
  await scrape();
  await expect.poll(scrape).toContain('glovebox_stats_runs{by="all",name=""} 0\n');
});
