import { assert, integer, nat, property, record, uniqueArray } from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Digest } from '../digest.ts';
import { Demand, plan, type Wish } from './plan.ts';

const key = (name: string): Digest => `sha256:${name.padEnd(64, '0')}`;
const wish = (name: string, wanted: number, more: Partial<Wish> = {}): Wish => ({
  key: key(name),
  memoryBytes: 1,
  wanted,
  atLeast: 0,
  ...more,
});
const counts = (wishes: readonly Wish[], warmMax: number, memoryBytes = 1000): number[] => {
  const planned = plan(wishes, { warmMax, memoryBytes });
  return wishes.map((each) => planned.get(each.key) ?? 0);
};

describe('the plan of a pool', () => {
  test.each<[string, Wish[], number, number, number[]]>([
    ['gives what is wanted where there is room', [wish('a', 2), wish('b', 1)], 8, 1000, [2, 1]],
    ['shares out what there is by how much is wanted', [wish('a', 6), wish('b', 2)], 4, 1000, [3, 1]],
    ['gives the only place to whom it serves most', [wish('a', 1), wish('b', 5)], 1, 1000, [0, 1]],
    ['serves first what was asked for by name', [wish('a', 9), wish('b', 1, { atLeast: 1 })], 1, 1000, [0, 1]],
    [
      'leaves out what does not fit, and takes what does',
      [wish('a', 9, { memoryBytes: 5 }), wish('b', 1)],
      8,
      4,
      [0, 1],
    ],
    ['has nothing where nothing may be kept', [wish('a', 9)], 0, 1000, [0]],
  ])('%s', (_, wishes, warmMax, memoryBytes, expected) => {
    expect(counts(wishes, warmMax, memoryBytes)).toEqual(expected);
  });

  test('never goes beyond the bound, and never beyond what is wanted', () => {
    const wishes = uniqueArray(
      record({
        key: integer({ min: 0, max: 99 }).map((n) => key(`${n}x`)),
        memoryBytes: integer({ min: 1, max: 10 }),
        wanted: integer({ min: 0, max: 9 }),
        atLeast: integer({ min: 0, max: 3 }),
      }),
      { selector: (each) => each.key, maxLength: 8 },
    );
    assert(
      property(wishes, nat(12), nat(60), (all, warmMax, memoryBytes) => {
        const planned = plan(all, { warmMax, memoryBytes });
        let [count, memory] = [0, 0];
        for (const each of all) {
          const many = planned.get(each.key) ?? 0;
          expect(many).toBeLessThanOrEqual(Math.max(each.wanted, each.atLeast));
          count += many;
          memory += many * each.memoryBytes;
        }
        expect(count).toBeLessThanOrEqual(warmMax);
        expect(memory).toBeLessThanOrEqual(memoryBytes);
      }),
    );
  });
});

describe('demand', () => {
  test('is there from the second time on, grows with how often, and is forgotten', () => {
    const demand = new Demand(60_000);
    expect(demand.wanted(0)).toBe(0);
    demand.count(0);
    expect(demand.wanted(1)).toBe(0);
    demand.count(1_000);
    expect(demand.wanted(1_000)).toBe(1);
    for (let n = 0; n < 18; n++) demand.count(1_000);
    expect(demand.wanted(1_000)).toBe(10);
    expect(demand.wanted(31_000)).toBe(5);
    expect(demand.isOver(61_000)).toBe(false);
    expect(demand.wanted(61_001)).toBe(0);
    expect(demand.isOver(61_001)).toBe(true);
  });

  test('of one that comes again after it was forgotten begins anew', () => {
    const demand = new Demand(60_000);
    demand.count(0);
    demand.count(120_000);
    expect(demand.wanted(120_000)).toBe(0);
    demand.count(130_000);
    expect(demand.wanted(130_000)).toBe(1);
  });
});
