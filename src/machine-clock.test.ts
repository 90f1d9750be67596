import { expect, test } from 'vitest';
import { awakeBetween, jumpBetween, momentNow, type Moment } from './machine-clock.ts';

const then: Moment = { wallMs: 1_000_000, bootId: 'a', awakeMs: 500, upMs: 700 };

test('what has passed is what the kernel has counted; the wall clock only says by how much it was set', () => {
  const slept = { ...then, awakeMs: 1_500, upMs: 61_700 };
  for (const jumpMs of [0, 86_400_000, -86_400_000]) {
    const now = { ...slept, wallMs: then.wallMs + 61_000 + jumpMs };
    expect([awakeBetween(then, now), jumpBetween(then, now)]).toEqual([1_000, jumpMs]);
  }
});

test('between two boots, or where the kernel has counted backwards, nobody can tell', () => {
  for (const now of [
    { ...then, bootId: 'b' },
    { ...then, awakeMs: 1, upMs: 1 },
  ])
    expect([awakeBetween(then, now), jumpBetween(then, now)]).toEqual([undefined, undefined]);
});

test('the clocks of this machine go on together', () => {
  const [first, second] = [momentNow(), momentNow()];
  expect(awakeBetween(first, second)).toBeLessThan(1_000);
  expect(Math.abs(jumpBetween(first, second) ?? Number.NaN)).toBeLessThan(1_000);
});
