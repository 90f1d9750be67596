import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { newId } from '../ids.ts';
import { bucketsMax } from './buckets.ts';
import { unjudged, type Judgement } from './judgement.ts';
import { groupsMax, Lanes, type LanesOptions } from './lanes.ts';
import type { RunFacts } from './run-facts.ts';
import { someFacts } from './some-facts.fixture.ts';
import { groupings, Stats, type Grouping, type Numbers } from './stats.ts';

const nowMs = Date.parse('2026-02-01T00:00:00.000Z');
const dayMs = 86_400_000;
const timeOf = (day: number): string => new Date(nowMs - 30 * dayMs + day * dayMs).toISOString();

type Told = readonly [Partial<RunFacts>, (Partial<Judgement> | undefined)?];

function statsOf(told: readonly Told[], by: Grouping = 'lane', options: Partial<LanesOptions> = {}): Stats {
  const lanes = new Lanes({ nowMs, ...options });
  for (const [facts, judgement] of told) lanes.add(someFacts(facts), { ...unjudged, ...judgement });
  return Stats.parse(lanes.stats(by));
}

function groupsOf(told: readonly Told[], by: Grouping = 'lane'): Record<string, Numbers> {
  return Object.fromEntries(statsOf(told, by).groups.map(({ name, numbers }) => [name, numbers]));
}

const accepted = { acceptedAt: timeOf(3) };

test('of nothing there are no numbers, and no division by zero', () => {
  const stats = statsOf([]);
  expect(stats).toMatchObject({ from: null, groups: [], all: { runs: 0, accepted: 0 } });
  expect(stats.all.completionMs).toEqual({ n: 0, median: null, p95: null, few: true });
  expect(stats.all.growth.verdict).toBe('too_few');
  expect(stats.buckets.starts).toEqual([]);
});

test('runs are counted by lane, class, policy and model; the group with most of them comes first', () => {
  const told: Told[] = [
    [{ lane: 'explore', class: 'bugfix', policy: 'one', models: ['m1'] }],
    [{ lane: 'commit', class: null, policy: 'one', models: ['m1', 'm2'] }],
    [{ lane: 'commit', class: 'bugfix', policy: 'two', models: [] }],
    [{ lane: null, class: 'bugfix', policy: 'one', models: ['m2'] }],
  ];
  const names = (by: Grouping) => statsOf(told, by).groups.map(({ name, numbers }) => `${name} ${numbers.runs}`);
  expect(names('lane')).toEqual(['commit 2', '(none) 1', 'explore 1']);
  expect(names('class')).toEqual(['bugfix 3', '(none) 1']);
  expect(names('policy')).toEqual(['one 3', 'two 1']);
  expect(names('model')).toEqual(['(none) 1', '(several) 1', 'm1 1', 'm2 1']);
});

test('open runs and runs that verify or replay others are told apart, and counted nowhere', () => {
  const stats = statsOf([[{ outcome: null, ms: null }], [{ purpose: 'verification' }], [{ purpose: 'replay' }], [{}]]);
  expect(stats.seen).toEqual({ open: 1, made: 2, unreadable: 0, unread: 0 });
  expect(stats.all.runs).toBe(1);
});

test('completion time is that of finished runs alone', () => {
  const { completionMs, outcomes } = statsOf([
    [{ ms: 1000 }],
    [{ ms: 3000 }],
    [{ ms: 900_000, outcome: 'cancelled' }],
    [{ ms: 900_000, outcome: 'lost' }],
  ]).all;
  expect(completionMs).toMatchObject({ n: 2, median: 2000 });
  expect(outcomes).toEqual({ finished: 2, failed: 0, cancelled: 1, lost: 1 });
});

test('the cost of an accepted change is that of all runs of the group, the refused ones too', () => {
  const { cost, accepted: changes } = statsOf([
    [{ cpuMs: 1000, tokens: { input: 900, output: 100 }, money: { EUR: 2_000_000 } }, accepted],
    [{ cpuMs: 3000, tokens: { input: 900, output: 100 }, money: { EUR: 1_000_000, USD: 500_000 } }],
    [{ cpuMs: 2000 }, accepted],
  ]).all;
  expect(changes).toBe(2);
  expect(cost).toMatchObject({ cpuMs: 6000, cpuMsPerAccepted: 3000 });
  // Of those that told: one of two was accepted.
  expect(cost.tokens).toEqual({ runs: 2, input: 1800, output: 200, accepted: 1, perAccepted: 2000 });
  expect(cost.money).toEqual([
    { currency: 'EUR', runs: 2, amount: 3, accepted: 1, perAccepted: 3 },
    { currency: 'USD', runs: 1, amount: 0.5, accepted: 0, perAccepted: null },
  ]);
});

test('rollbacks are a share of promotions, failed verifications one of verified runs, flaky gates one of repeated gates', () => {
  const { rolledBack, failedVerification, flaky, verdicts } = statsOf([
    [
      { verdict: 'passed', gates: { repeated: 2, flaky: 1 } },
      { promoted: 2, rolledBack: 1, ...accepted },
    ],
    [{ verdict: 'broken' }, { promoted: 1 }],
    [{ verdict: 'needs_review', gates: { repeated: 2, flaky: 0 } }],
    [{}],
  ]).all;
  expect(rolledBack).toMatchObject({ count: 1, of: 3, few: true });
  expect(failedVerification).toMatchObject({ count: 1, of: 3 });
  expect(verdicts).toEqual({ passed: 1, needs_review: 1, failed: 0, broken: 1 });
  expect(flaky).toMatchObject({ count: 1, of: 4, share: 0.25 });
});

test('failures, drift and approvals are added up, the most frequent kind first', () => {
  const { failures, drift, approvals } = statsOf([
    [{ failures: { policy: 1 }, drift: { env: 2 } }],
    [
      {
        failures: { policy: 1, budget: 5 },
        approvals: { asked: 3, approved: 1, denied: 1, unanswered: 1, waitsMs: [10, 20, 30] },
      },
    ],
  ]).all;
  expect(failures).toEqual({ total: 7, byClass: { budget: 5, policy: 2 } });
  expect(Object.keys(failures.byClass)).toEqual(['budget', 'policy']);
  expect(drift).toEqual({ total: 2, byKind: { env: 2 } });
  expect(approvals).toMatchObject({ asked: 3, approved: 1, denied: 1, unanswered: 1, waitMs: { n: 3, median: 20 } });
});

test('correction is what forks of a reviewed run did after its first review, and counts for the lane that was reviewed first', () => {
  const [first, second, third, early] = [newId(), newId(), newId(), newId()];
  const told: Told[] = [
    [{ run: third, lane: 'commit', forkedFrom: second, openedAt: timeOf(5), calls: 4, linesSinceFork: 1 }, accepted],
    [{ run: second, lane: 'commit', forkedFrom: first, openedAt: timeOf(3), calls: 10, linesSinceFork: 7 }],
    [{ run: early, lane: 'explore', forkedFrom: first, openedAt: timeOf(1), calls: 99, linesSinceFork: 99 }],
    [
      { run: first, lane: 'explore', calls: 50, openedAt: timeOf(0) },
      { firstReview: { at: timeOf(2), verdict: 'rejected' } },
    ],
    [{ lane: 'explore' }, { firstReview: { at: timeOf(2), verdict: 'accepted' }, ...accepted }],
  ];
  const { explore, commit } = groupsOf(told);
  expect(explore?.firstReview).toMatchObject({ count: 1, of: 2, share: 0.5 });
  expect(explore?.correction).toEqual({
    changes: 2,
    corrected: 1,
    calls: 14,
    callsMedian: 7,
    lines: 8,
    linesMedian: 4,
    linesUnknown: 0,
  });
  expect(commit?.correction.changes).toBe(0);
  expect(commit?.accepted).toBe(1);
});

test('lines that are not kept any more are said to be unknown, and the calls are counted all the same', () => {
  const first = newId();
  const { correction } = statsOf([
    [{ run: first, openedAt: timeOf(0) }, { firstReview: { at: timeOf(1), verdict: 'rejected' } }],
    [{ forkedFrom: first, openedAt: timeOf(2), calls: 6, linesSinceFork: null }],
  ]).all;
  expect(correction).toMatchObject({
    changes: 1,
    corrected: 1,
    calls: 6,
    lines: 0,
    linesMedian: null,
    linesUnknown: 1,
  });
});

test('forks that name each other in a circle end', () => {
  const [a, b] = [newId(), newId()];
  const reviewed = { firstReview: { at: timeOf(1), verdict: 'rejected' } } as const;
  const { correction } = statsOf([
    [{ run: a, forkedFrom: b, openedAt: timeOf(2), calls: 1 }, reviewed],
    [{ run: b, forkedFrom: a, openedAt: timeOf(2), calls: 1 }],
  ]).all;
  expect(correction).toMatchObject({ changes: 1, calls: 2 });
});

test('failures that grow faster than accepted changes are said, of the window from the first run to now', () => {
  const half = (day: number, failures: number): Told[] =>
    Array.from({ length: 10 }, (): Told => [
      { openedAt: timeOf(day), failures: { budget: failures } },
      { acceptedAt: timeOf(day) },
    ]);
  const growth = (told: readonly Told[]) => statsOf(told).all.growth;
  expect(growth([...half(2, 1), ...half(20, 5)])).toEqual({
    verdict: 'grows_faster',
    runs: [10, 10],
    failures: [10, 50],
    accepted: [10, 10],
  });
  expect(growth([...half(2, 2), ...half(20, 2)]).verdict).toBe('does_not');
  expect(growth([...half(2, 2), ...half(3, 9)]).verdict).toBe('too_few'); // nothing in the second half
});

test('the timeline has every run, failure and accepted change once, in at most 60 buckets', () => {
  const told = Array.from({ length: 300 }, (_, at): Told => [
    { openedAt: timeOf(at / 10), failures: { budget: 1 } },
    at % 3 === 0 ? { acceptedAt: timeOf(at / 10 + 0.01) } : {},
  ]);
  const { buckets, all } = statsOf(told);
  const sum = (values: readonly (number | null)[]): number => values.reduce<number>((all, one) => all + (one ?? 0), 0);
  expect(buckets.starts.length).toBeLessThanOrEqual(bucketsMax);
  expect(buckets.ms).toBe(dayMs);
  expect([sum(all.timeline.runs), sum(all.timeline.failures), sum(all.timeline.accepted)]).toEqual([300, 300, 100]);
  expect(all.timeline.medianMs.filter((one) => one !== null)).toHaveLength(30);
});

test('more names than there may be groups are counted together', () => {
  const told = Array.from({ length: groupsMax + 50 }, (_, at): Told => [{ lane: `l${at}` }, accepted]);
  const stats = statsOf(told);
  expect(stats.groups).toHaveLength(groupsMax + 1);
  expect(stats.groups[0]).toMatchObject({ name: '(others)', numbers: { runs: 50, accepted: 50 } });
});

const kinds = { min: 0, max: 5 };
const count = fc.nat(1000);
const anyTold: fc.Arbitrary<Told> = fc.tuple(
  fc.record({
    lane: fc.constantFrom('explore', 'commit', null, '__proto__', 'constructor'),
    class: fc.constantFrom('bugfix', null),
    models: fc.array(fc.constantFrom('m1', 'm2', 'toString'), { maxLength: 2 }),
    outcome: fc.constantFrom('finished', 'failed', 'lost', null),
    openedAt: fc.integer({ min: -40, max: 40 }).map(timeOf),
    ms: count,
    calls: count,
    cpuMs: count,
    tokens: fc.option(fc.record({ input: count, output: count })),
    money: fc.dictionary(fc.constantFrom('EUR', 'USD'), count),
    failures: fc.dictionary(fc.constantFrom('policy', 'budget'), fc.integer(kinds)),
    verdict: fc.constantFrom('passed', 'failed', null),
  }),
  fc.record({
    acceptedAt: fc.option(fc.integer({ min: -40, max: 40 }).map(timeOf)),
    promoted: fc.integer(kinds),
    rolledBack: fc.constant(0),
    firstReview: fc.option(fc.record({ at: fc.nat(30).map(timeOf), verdict: fc.constantFrom('accepted', 'rejected') })),
  }),
);

test('whatever the runs are, every number is finite, groups add up to all, and their order changes nothing', () => {
  fc.assert(
    fc.property(fc.array(anyTold, { maxLength: 60 }), (drawn) => {
      const told = drawn.map(([facts, judgement]): Told => [{ run: newId(), ...facts }, judgement]);
      for (const by of groupings) {
        const stats = statsOf(told, by); // parsed strictly: NaN and infinities are refused there
        expect(stats.groups.reduce((sum, { numbers }) => sum + numbers.runs, 0)).toBe(stats.all.runs);
        expect(stats.groups.reduce((sum, { numbers }) => sum + numbers.failures.total, 0)).toBe(
          stats.all.failures.total,
        );
        expect(statsOf(told.toReversed(), by)).toEqual(stats);
      }
    }),
    { numRuns: 50 },
  );
});

test('what harnesses claim beyond all counting leaves numbers that are counts', () => {
  const lanes = new Lanes({ nowMs: Date.now() });
  const claimed = { input: Number.MAX_SAFE_INTEGER, output: Number.MAX_SAFE_INTEGER };
  for (let run = 0; run < 3; run++) lanes.add(someFacts({ tokens: claimed, money: { EUR: 1e300 } }), unjudged);
  const stats = lanes.stats('lane');
  expect(Stats.parse(stats)).toEqual(stats);
  expect(stats.all.cost.tokens).toMatchObject({ runs: 3, ...claimed });
});
