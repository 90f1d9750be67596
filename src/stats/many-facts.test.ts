import { expect, test } from 'vitest';
import { unjudged } from './judgement.ts';
import { Lanes } from './lanes.ts';
import { someFacts } from './some-facts.fixture.ts';
import { groupings } from './stats.ts';

const nowMs = Date.parse('2026-02-01T00:00:00.000Z');
const timeOf = (day: number): string => new Date(nowMs - (30 - day) * 86_400_000).toISOString();
const judged = { ...unjudged, acceptedAt: timeOf(3), firstReview: { at: timeOf(1), verdict: 'accepted' } } as const;

test('the facts of 10,000 runs are put together in less than a second', () => {
  const lanes = new Lanes({ nowMs });
  const told = Array.from({ length: 10_000 }, (_, at) =>
    someFacts({
      openedAt: timeOf((at % 300) / 10),
      lane: `lane${at % 7}`,
      models: [`m${at % 5}`],
      policy: `p${at % 3}`,
      ms: at * 17,
      failures: { budget: at % 3 },
      approvals: { asked: 1, approved: 1, denied: 0, unanswered: 0, waitsMs: [at] },
    }),
  );
  const startMs = performance.now();
  for (const [at, facts] of told.entries()) lanes.add(facts, at % 4 === 0 ? judged : unjudged);
  const stats = groupings.map((by) => lanes.stats(by));
  expect(performance.now() - startMs).toBeLessThan(1000);
  expect(stats.map(({ all }) => all.runs)).toEqual([10_000, 10_000, 10_000, 10_000]);
});
