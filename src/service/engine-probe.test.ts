import { expect, test } from 'vitest';
import { EngineProbe } from './engine-probe.ts';

test('however many ask whether the engine answers, it is asked once, and again a second after its answer', async () => {
  const clock = { ms: 0 };
  const ends: ((error?: Error) => void)[] = [];
  const ask = (): Promise<void> =>
    new Promise((resolve, reject) => {
      ends.push((error) => (error === undefined ? resolve() : reject(error)));
    });
  const probe = new EngineProbe(ask, () => clock.ms);
  const first = [probe.answers(), probe.answers()];
  clock.ms = 5_000; // it is under way, however long that takes
  first.push(probe.answers());
  expect(ends).toHaveLength(1);
  ends[0]?.();
  expect(await Promise.all(first)).toEqual([5_000, 5_000, 5_000]);
  clock.ms = 5_999;
  expect(await probe.answers()).toBe(5_000);
  clock.ms = 6_000;
  const later = [probe.answers(), probe.answers()];
  expect(ends).toHaveLength(2);
  ends[1]?.(new Error('no engine'));
  for (const one of later) await expect(one).rejects.toThrow('no engine');
  await expect(probe.answers()).rejects.toThrow('no engine');
  expect(ends).toHaveLength(2);
});
