import { describe, expect, test } from 'vitest';
import { boundText, upperBound } from './bound.ts';
import { chanceOfMore, classify } from './classify.ts';
import { Observed } from './observed.ts';
import { nextRerun } from './plan.ts';
import type { Place, StabilityVerdict, Way } from '../verification.ts';

describe('the bound', () => {
  test.each([
    [0, 1, '0 of 1 failed: fails less than 95 % of the time, with 95 % confidence'],
    [0, 5, '0 of 5 failed: fails less than 46 % of the time, with 95 % confidence'],
    [0, 170, '0 of 170 failed: fails less than 2 % of the time, with 95 % confidence'],
    [5, 5, '5 of 5 failed: passes less than 46 % of the time, with 95 % confidence'],
    [2, 5, '2 of 5 failed: fails more than 7 % and less than 82 % of the time, each with 95 % confidence'],
    [0, 0, 'nothing was run'],
  ])('%i of %i', (failed, runs, text) => {
    expect(boundText(failed, runs)).toBe(text);
  });

  test('at the bound, what was seen is seen once in twenty', () => {
    for (const runs of [1, 3, 10, 50]) expect((1 - upperBound(0, runs)) ** runs).toBeCloseTo(0.05, 6);
  });
});

test('chance alone: the numbers of the textbook', () => {
  expect(chanceOfMore({ runs: 6, failed: 2 }, { runs: 5, failed: 5 })).toBeCloseTo(15 / 330, 9);
  expect(chanceOfMore({ runs: 4, failed: 4 }, { runs: 4, failed: 4 })).toBe(1);
  expect(chanceOfMore({ runs: 0, failed: 0 }, { runs: 4, failed: 4 })).toBe(1);
});

type Shown = readonly (readonly [Place, Way, failed: number, passed: number])[];

test.each<readonly [StabilityVerdict, Shown]>([
  [
    'stable_fail',
    [
      ['candidate', 'same', 6, 0],
      ['base', 'same', 0, 2],
    ],
  ],
  [
    'failed_before',
    [
      ['candidate', 'same', 6, 0],
      ['base', 'same', 2, 0],
    ],
  ],
  [
    'flaky_order',
    [
      ['candidate', 'same', 6, 0],
      ['base', 'same', 0, 2],
      ['candidate', 'shuffled', 4, 1],
    ],
  ],
  [
    'flaky_network',
    [
      ['candidate', 'same', 6, 0],
      ['base', 'same', 1, 1],
      ['candidate', 'no_network', 0, 5],
    ],
  ],
  [
    'flaky_load',
    [
      ['candidate', 'same', 2, 10],
      ['candidate', 'half_cpu', 9, 1],
    ],
  ],
  [
    'flaky_unknown',
    [
      ['candidate', 'same', 3, 3],
      ['candidate', 'half_cpu', 3, 2],
    ],
  ],
  // The base flickers as well: then it is the test, and not the candidate.
  [
    'flaky_unknown',
    [
      ['candidate', 'same', 3, 3],
      ['base', 'same', 1, 1],
    ],
  ],
])('%s', (verdict, counts) => {
  const seen = new Observed();
  for (const [where, how, failed, passed] of counts) {
    for (let n = 0; n < failed; n++) seen.add(where, how, true, false);
    for (let n = 0; n < passed; n++) seen.add(where, how, false, false);
  }
  expect(classify(seen).verdict).toBe(verdict);
});

/** What flickers, as the parts of a machine that it depends on. */
interface Machine {
  readonly isBase: boolean;
  readonly order: 'given' | 'shuffled';
  readonly hasNetwork: boolean;
  readonly cpus: number;
  readonly random: () => number;
}
interface Ran {
  readonly failed: boolean;
  readonly trouble?: boolean;
}

interface Sort {
  readonly expected: StabilityVerdict;
  readonly gate: { readonly shuffle?: readonly string[]; readonly egress: readonly string[] };
  /** A test of this sort, made anew each time. */
  readonly make: (random: () => number) => (machine: Machine) => Ran;
}

const offline = { egress: [] };
const shuffling = { egress: [], shuffle: ['run-tests', '--shuffle'] };
const online = { egress: ['registry'] };
const between = (random: () => number, low: number, high: number): number => low + random() * (high - low);
const chance =
  (rate: number) =>
  ({ random }: Machine): Ran => ({ failed: random() < rate });

/** Ten times each; rates and orders differ from one to the next. */
const sorts: Readonly<Record<string, Sort>> = {
  'victim of the order': {
    expected: 'flaky_order',
    gate: shuffling,
    // Fails after the test that spoils it, which stands somewhere before.
    make: (random) => {
      const tests = 3 + Math.floor(random() * 20);
      return ({ order, random: now }) => ({
        failed: order === 'given' || Math.floor(now() * tests) > Math.floor(now() * tests),
      });
    },
  },
  'victim of a new test': {
    expected: 'flaky_order',
    gate: shuffling,
    make:
      () =>
      ({ isBase, order, random: now }) => ({ failed: !isBase && (order === 'given' || now() < 0.5) }),
  },
  'a service that answers at times': {
    expected: 'flaky_network',
    gate: online,
    make: (random) => {
      const rate = between(random, 0.2, 0.7);
      return ({ hasNetwork, random: now }) => {
        const failed = !hasNetwork || now() < rate;
        return { failed, trouble: failed };
      };
    },
  },
  'a race with a service': {
    expected: 'flaky_network',
    gate: online,
    // Nobody sees the trouble: it answers, and too late.
    make: (random) => {
      const rate = between(random, 0.1, 0.4);
      return ({ hasNetwork, random: now }) => ({ failed: !hasNetwork || now() < rate });
    },
  },
  'a race that load decides': {
    expected: 'flaky_load',
    gate: offline,
    make: (random) => {
      const rate = between(random, 0.05, 0.3);
      return ({ cpus, random: now }) => ({ failed: now() < (cpus < 1 ? 0.97 : rate) });
    },
  },
  'the time of day': {
    expected: 'flaky_unknown',
    gate: offline,
    // Wrong in a part of every minute.
    make: (random) => chance(between(random, 0.2, 0.6)),
  },
  'random numbers': { expected: 'flaky_unknown', gate: online, make: (random) => chance(between(random, 0.2, 0.6)) },
  'random numbers in shuffled tests': {
    expected: 'flaky_unknown',
    gate: shuffling,
    make: (random) => chance(between(random, 0.2, 0.6)),
  },
  'broken before': { expected: 'failed_before', gate: shuffling, make: () => () => ({ failed: true }) },
  'broken by the candidate': {
    expected: 'stable_fail',
    gate: shuffling,
    make:
      () =>
      ({ isBase }) => ({ failed: !isBase }),
  },
  'broken where the network is shut': {
    expected: 'stable_fail',
    gate: online,
    make:
      () =>
      ({ isBase }) => ({ failed: !isBase }),
  },
};

/** A machine that draws the same numbers each time (mulberry32). */
function drawing(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const reruns = { same: 12, shuffled: 8, noNetwork: 12, halfCpu: 12, base: 3 };

/** The verdict for one test, as verify comes to it: what failed once is run again as the plan says. */
function verdictFor({ gate, make }: Sort, random: () => number): { verdict: StabilityVerdict; runs: number } {
  const flaky = make(random);
  const seen = new Observed();
  const run = (where: Place, how: Way): void => {
    const ran = flaky({
      isBase: where === 'base',
      order: how === 'shuffled' ? 'shuffled' : 'given',
      hasNetwork: how !== 'no_network' && gate.egress.length > 0,
      cpus: how === 'half_cpu' ? 0.5 : 1,
      random,
    });
    seen.add(where, how, ran.failed, ran.trouble === true);
  };
  // Only what fails is run again, so the corpus begins with a failure.
  do run('candidate', 'same');
  while (seen.of('candidate', 'same').failed === 0);
  let runs = 0;
  for (let next = nextRerun(gate, reruns, seen); next !== undefined; next = nextRerun(gate, reruns, seen)) {
    run(next.where, next.how);
    expect(runs++, 'a plan that has no end').toBeLessThan(200);
  }
  return { verdict: classify(seen).verdict, runs };
}

test('of a corpus of tests that flicker for known reasons, at least 95 in 100 are told right', () => {
  const random = drawing(20_260_101);
  const each = 100;
  const rows = Object.entries(sorts).map(([name, sort]) => {
    const told = Array.from({ length: each }, () => verdictFor(sort, random).verdict);
    return { name, expected: sort.expected, told };
  });
  const right = rows.map(({ expected, told }) => told.filter((verdict) => verdict === expected).length);
  const columns = [...new Set(rows.flatMap(({ told, expected }) => [expected, ...told]))];
  const width = Math.max(...rows.map(({ name }) => name.length));
  const lines = rows.map(({ name, expected, told }) => {
    const counts = columns.map((verdict) => `${told.filter((one) => one === verdict).length}`.padStart(verdict.length));
    return `${name.padEnd(width)} | ${counts.join('  ')} | ${expected}`;
  });
  const share = right.reduce((sum, count) => sum + count, 0) / (rows.length * each);
  console.info(
    [`${''.padEnd(width)} | ${columns.join('  ')} | is`, ...lines, `right: ${(share * 100).toFixed(1)} %`].join('\n'),
  );
  expect(share).toBeGreaterThanOrEqual(0.95);
  for (const [at, count] of right.entries()) expect(count, rows[at]?.name).toBeGreaterThanOrEqual(0.9 * each);
});

test('a flake is never stable, whatever was drawn', () => {
  const random = drawing(7);
  for (const name of ['the time of day', 'random numbers', 'a race with a service'] as const) {
    const sort = sorts[name];
    if (sort === undefined) throw new Error(name);
    const told = Array.from({ length: 300 }, () => verdictFor(sort, random).verdict);
    expect(told.filter((verdict) => verdict === 'stable_pass')).toEqual([]);
    expect(told.filter((verdict) => verdict === 'stable_fail').length, name).toBeLessThan(3);
  }
});
