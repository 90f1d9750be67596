import { expect, test } from 'vitest';
import { Metrics } from './metrics.ts';

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
