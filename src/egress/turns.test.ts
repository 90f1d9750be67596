import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Turns } from './turns.ts';

test('a few are done in each turn, in their order, and others come in between', async () => {
  const turns = new Turns({ perTurn: 3, waitingMax: 100 });
  const done: number[] = [];
  for (let n = 0; n < 7; n++) turns.take(() => done.push(n));
  expect(done).toEqual([]);
  const seen: number[] = [];
  while (done.length < 7) {
    await turn();
    seen.push(done.length);
  }
  expect(done).toEqual([0, 1, 2, 3, 4, 5, 6]);
  expect(seen).toEqual([3, 6, 7]);
});

test('what is too much is dropped, and there is room again once some are done', async () => {
  const turns = new Turns({ perTurn: 2, waitingMax: 2 });
  let done = 0;
  const work = (): void => void done++;
  expect([1, 2, 3].map(() => turns.take(work))).toEqual([true, true, false]);
  await turn();
  expect(done).toBe(2);
  expect(turns.take(work)).toBe(true);
});
