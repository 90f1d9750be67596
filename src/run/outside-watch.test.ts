import { expect, test } from 'vitest';
import type { ContainerReading } from '../engine/reading.ts';
import { OutsideWatch } from './outside-watch.ts';

/** An engine that gives a container one more network each time it is asked. */
function watched(before: ContainerReading | undefined): { watch: OutsideWatch; told: string[]; asked: () => number } {
  const told: string[] = [];
  let asked = 0;
  const names = ({ networks }: ContainerReading): string => networks.join('+');
  const watch = new OutsideWatch({
    engine: { read: async () => reading(++asked) },
    sandbox: { containerId: 'c', state: 'running' },
    drift: {
      outside: async (was, now) => void told.push(`${names(was)} -> ${now === undefined ? 'gone' : names(now)}`),
      unlooked: async (error) => void told.push(String(error)),
    },
    before,
  });
  return { watch, told, asked: () => asked };
}

function reading(networks: number): ContainerReading {
  const state = {
    id: 'c',
    name: 'c',
    labels: {},
    status: 'running',
    exitCode: undefined,
    outOfMemory: false,
    startedAt: '1',
  } as const;
  const names = Array.from({ length: networks }, (_, n) => `n${n}`);
  return { state, image: 'i', runtime: 'runc', limits: {}, networks: names, mounts: [], execs: 0 };
}

test('what was read back of a container is what it is held against, and nobody is asked as its run opens', async () => {
  const { watch, told, asked } = watched(reading(0));
  expect(asked()).toBe(0);
  await watch.look(false);
  expect(told).toEqual([' -> n0']);
});

test('of a container that another runner has started the engine is asked at once', async () => {
  const { watch, told, asked } = watched(undefined);
  expect(asked()).toBe(1);
  await watch.look(true);
  expect(told).toEqual(['n0 -> n0+n1']);
});
