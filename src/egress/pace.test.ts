import { expect, test } from 'vitest';
import { Pace } from './pace.ts';

test('a burst goes at once, the rest in its order and no faster than so many a second', async () => {
  const pace = new Pace({ perSecond: 100, burst: 5 });
  const [startMs, came] = [performance.now(), [] as number[]];
  await Promise.all(Array.from({ length: 15 }, (_, n) => pace.turn().then(() => came.push(n))));
  expect(performance.now() - startMs).toBeGreaterThan(95);
  expect(came).toEqual([...came.keys()]);
});

test('nobody waits once it is over', async () => {
  const pace = new Pace({ perSecond: 0.01, burst: 1 });
  const waiting = Promise.all([pace.turn(), pace.turn(), pace.turn()]);
  expect(pace.waiting).toBe(2);
  pace.release();
  await waiting;
  await pace.turn();
});
