import { expect, test } from 'vitest';
import { growthOf, type Growth } from './growth.ts';

type Pair = readonly [number, number];
const cases: readonly (readonly [string, Pair, Pair, Pair, Growth['verdict']])[] = [
  ['twice the failures, as many accepted', [20, 20], [20, 40], [10, 10], 'grows_faster'],
  ['twice the failures, twice the accepted', [20, 40], [20, 40], [10, 20], 'does_not'],
  ['twice the failures, three times the accepted', [20, 40], [20, 40], [10, 30], 'does_not'],
  ['fewer failures, far fewer accepted: nothing grows', [20, 20], [40, 30], [20, 1], 'does_not'],
  ['as many failures, none accepted any more: nothing grows', [20, 20], [30, 30], [20, 0], 'does_not'],
  ['failures at first none', [20, 20], [0, 20], [5, 5], 'grows_faster'],
  ['nothing was ever accepted', [20, 20], [10, 30], [0, 0], 'grows_faster'],
  ['a quarter more exactly: (24 + 1) / (19 + 1)', [20, 20], [19, 24], [9, 9], 'does_not'],
  ['a little more than a quarter', [20, 20], [19, 25], [9, 9], 'grows_faster'],
  ['nine runs in the first half', [9, 50], [20, 80], [5, 5], 'too_few'],
  ['nine runs in the second half', [50, 9], [20, 80], [5, 5], 'too_few'],
  ['nineteen failures', [50, 50], [1, 18], [5, 5], 'too_few'],
  ['nothing at all', [0, 0], [0, 0], [0, 0], 'too_few'],
];

test.each(cases)('%s: runs %j, failures %j, accepted %j: %s', (_, runs, failures, accepted, verdict) => {
  expect(growthOf({ runs, failures, accepted })).toEqual({ verdict, runs, failures, accepted });
});
