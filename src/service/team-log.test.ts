import { expect, test } from 'vitest';
import { TeamLog } from './team-log.ts';

function filled(log: TeamLog<number>, team: string, count: number): void {
  for (let n = 1; n <= count; n++) log.push(team, n);
}

test('what a team has is never pushed out by another that has more', () => {
  const log = new TeamLog<number>(100);
  filled(log, 'quiet', 3);
  filled(log, 'loud', 10_000);
  expect(log.of('quiet')).toEqual([1, 2, 3]);
  expect(log.of('loud').length).toBeLessThanOrEqual(97);
  expect(log.of('loud').at(-1)).toBe(10_000);
});

test('nothing grows beyond the bound, however many teams there are', () => {
  const log = new TeamLog<number>(50);
  for (let n = 0; n < 500; n++) filled(log, `t${n}`, 3);
  let kept = 0;
  for (let n = 0; n < 500; n++) kept += log.of(`t${n}`).length;
  expect(kept).toBeLessThanOrEqual(50);
  expect(kept).toBeGreaterThan(40);
});

test('a position goes on from the own item after it, says where some are gone, and counts nothing of others', () => {
  const log = new TeamLog<number>(100);
  filled(log, 'loud', 60);
  filled(log, 'quiet', 3);
  expect([log.last('quiet'), log.last('nobody')]).toEqual([3, 0]);
  expect([log.after('quiet', 0, 9), log.after('quiet', 1, 1), log.after('quiet', 3, 9)]).toEqual([[1, 2, 3], [2], []]);
  expect(log.after('nobody', 0, 9)).toEqual([]);
  filled(log, 'loud', 100);
  expect(log.after('loud', 0, 9)).toBeUndefined();
  expect(log.after('loud', 159, 9)).toEqual([100]);
});
