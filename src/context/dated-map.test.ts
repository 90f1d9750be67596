import { expect, test } from 'vitest';
import { DatedMap } from './dated-map.ts';

test('holds what it held at each moment that was named', () => {
  const map = new DatedMap<string>();
  map.set('a', 'old');
  map.set('a', 'one');
  const first = map.mark();
  map.set('b', 'two');
  map.set('a', 'three');
  const second = map.mark();
  map.set('b', 'four');
  expect([...map.entries(first)]).toEqual([['a', 'one']]);
  expect([...map.entries(second)]).toEqual([
    ['a', 'three'],
    ['b', 'two'],
  ]);
  expect([map.get('a'), map.get('b'), map.get('c'), map.get('b', first)]).toEqual([
    'three',
    'four',
    undefined,
    undefined,
  ]);
});

test('takes no room and no time for moments between which little was set', () => {
  const map = new DatedMap<string>();
  for (let key = 0; key < 20_000; key++) map.set(`${key}`, 'x');
  const before = process.memoryUsage().heapUsed;
  for (let moment = 0; moment < 5_000; moment++) {
    map.mark();
    map.set('0', `${moment}`);
  }
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(64 * 1024 ** 2);
  expect([map.get('0', 0), map.get('0', 10), map.get('1', 4_000)]).toEqual(['x', '9', 'x']);
});
