import { expect, test } from 'vitest';
import { Registry } from 'prom-client';
import { Lanes } from '../stats/lanes.ts';
import { someFacts } from '../stats/some-facts.fixture.ts';
import { groupings, type Stats } from '../stats/stats.ts';
import { Api } from './api.fixture.ts';
import { Metrics } from './metrics.ts';
import { registerStats } from './stats-metrics.ts';

test('what a runner makes ahead is told as it stands, and zero where there is no pool', async () => {
  const metrics = new Metrics();
  const opensStats = { waiting: 3, refused: 2 };
  const counts = { warm: 1, making: 0, memoryBytes: 4096, taken: 9, missed: 4, unfit: 1, expired: 2, failed: 0 };
  const runner = { opensStats, poolStats: counts as typeof counts | undefined };
  metrics.followRunner(runner);
  expect(await metrics.text()).toContain('glovebox_pool_taken_total 9\n');
  const again = await metrics.text();
  expect(again).toContain('glovebox_pool_taken_total 9\n');
  expect(again).toContain('glovebox_opens_waiting 3\n');
  expect(again).toContain('# TYPE glovebox_opens_refused_total counter\n');
  runner.poolStats = undefined;
  expect(await metrics.text()).toContain('glovebox_pool_taken_total 0\n');
});

function statsOf(lanes: number): readonly Stats[] {
  const all = new Lanes({ nowMs: Date.parse('2026-02-01T00:00:00.000Z') });
  for (let at = 0; at < lanes * 2; at++)
    all.add(someFacts({ lane: `lane${at % lanes}`, failures: { budget: 1 }, cpuMs: 500 }));
  return groupings.map((by) => all.stats(by));
}

test('statistics are gauges of the ten largest groups of each grouping, and nothing before they were counted', async () => {
  const registry = new Registry();
  let seen: readonly Stats[] | undefined;
  registerStats(registry, () => seen);
  expect(await registry.metrics()).not.toMatch(/^glovebox_stats/m);
  seen = statsOf(3);
  const text = await registry.metrics();
  expect(text).toContain('glovebox_stats_runs{by="all",name=""} 6\n');
  expect(text).toContain('glovebox_stats_runs{by="lane",name="lane0"} 2\n');
  expect(text).toContain('glovebox_stats_failures{by="lane",name="lane0",class="budget"} 2\n');
  expect(text).toContain('glovebox_stats_cpu_seconds{by="all",name=""} 3\n');
  expect(text).not.toContain('glovebox_stats_completion_seconds_p95{'); // too few
  expect(text).not.toMatch(/NaN/);
  seen = statsOf(50);
  const lanes = (await registry.metrics()).match(/^glovebox_stats_runs\{by="lane"/gm) ?? [];
  expect(lanes).toHaveLength(10);
  seen = [];
  expect(await registry.metrics()).not.toMatch(/^glovebox_stats/m); // no group stays behind
});

test('a client that sends a policy with another lane each time makes no row for each of them', async () => {
  const api = await Api.open();
  const key = api.key({ policies: 'any', quota: { openRuns: 1_000 } });
  const policyOf = (lane: string): string =>
    `apiVersion: glovebox/v1\nkind: Policy\nname: sent\nimages: [base]\nfiles: { read: ["**"] }\n` +
    `lanes: { ${lane}: {} }\nclasses: { c-${lane}: { lane: ${lane} } }\n`;
  for (let at = 0; at < 80; at++) {
    const { id } = await api.open(key, { policy: { text: policyOf(`lane-${at}`) }, taskClass: `c-lane-${at}` });
    await api.ask(key, 'POST', `/v1/runs/${id}/close`, {});
  }
  const text = await (await api.ask(key, 'GET', '/metrics')).text();
  const rows = text.match(/^glovebox_runs_closed_total\{.*$/gm) ?? [];
  expect(rows).toContain('glovebox_runs_closed_total{lane="lane-0",class="c-lane-0",outcome="finished"} 1');
  expect(rows).toContain('glovebox_runs_closed_total{lane="(others)",class="(others)",outcome="finished"} 16');
  expect(rows).toHaveLength(65);
  await api.close();
});
