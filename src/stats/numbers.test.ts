import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { per, shareOf, spreadOf } from './numbers.ts';

test.each([
  ['nothing', [], { n: 0, median: null, p95: null, few: true }],
  ['one', [7], { n: 1, median: 7, p95: null, few: true }],
  ['two: their middle', [10, 20], { n: 2, median: 15, p95: null, few: true }],
  ['five, in any order', [5, 1, 4, 2, 3], { n: 5, median: 3, p95: null, few: false }],
  ['nineteen: too few for a percentile', upTo(19), { n: 19, median: 10, p95: null, few: false }],
  ['twenty: all but one are at most that', upTo(20), { n: 20, median: 11, p95: 19, few: false }],
  ['a hundred', upTo(100), { n: 100, median: 51, p95: 95, few: false }],
  ['numbers are compared as numbers', [9, 10, 100, 1000, 8], { n: 5, median: 10, p95: null, few: false }],
])('the spread of %s', (_, values, expected) => {
  expect(spreadOf(values)).toEqual(expected);
});

test('a share is told with its counts, and is null of nothing', () => {
  expect(shareOf(0, 0)).toEqual({ count: 0, of: 0, share: null, low: null, high: null, few: true });
  expect(shareOf(3, 9)).toMatchObject({ share: 0.3333, few: true });
  expect(shareOf(3, 10)).toMatchObject({ share: 0.3, few: false });
});

test("Wilson's interval is that of the textbook: 8 of 10", () => {
  expect(shareOf(8, 10)).toMatchObject({ low: 0.4902, high: 0.9433 });
});

test('an interval holds its share, and lies between nothing and all', () => {
  fc.assert(
    fc.property(fc.nat(5000), fc.nat(5000), (a, b) => {
      const { share, low, high } = shareOf(Math.min(a, b), Math.max(a, b, 1));
      const [least, value, most] = [low ?? -1, share ?? -1, high ?? -1];
      expect(least).toBeGreaterThanOrEqual(0);
      expect(least).toBeLessThanOrEqual(value);
      expect(value).toBeLessThanOrEqual(most);
      expect(most).toBeLessThanOrEqual(1);
    }),
  );
});

test('what one costs is null where there is none', () => {
  expect(per(10, 0)).toBeNull();
  expect(per(10, 3)).toBe(3.33);
});

function upTo(n: number): number[] {
  return Array.from({ length: n }, (_, at) => n - at);
}
