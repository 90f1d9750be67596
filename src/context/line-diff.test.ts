import { array, assert, boolean, constantFrom, property } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DiffWork, keptLines } from './line-diff.ts';

/** Few different lines, so that many stand more than once. */
const text = array(constantFrom('a', 'b', 'c', '', '}'), { maxLength: 40 });

describe('lines that were kept', () => {
  test('are the same lines, in order, and none of them twice', () => {
    assert(
      property(text, text, (before, now) => {
        const kept = [...keptLines(before, now)];
        const origins = kept.filter((at) => at >= 0);
        expect(origins).toEqual([...new Set(origins)].toSorted((a, b) => a - b));
        for (const [at, origin] of kept.entries()) if (origin >= 0) expect(before[origin]).toBe(now[at]);
      }),
    );
  });

  test('are all of them where nothing changed, and where lines only came or only went', () => {
    assert(
      property(text, array(boolean(), { maxLength: 40 }), (whole, mask) => {
        const some = whole.filter((_, at) => mask[at] === true);
        expect(keptLines(whole, some).every((origin) => origin >= 0)).toBe(true);
        expect([...keptLines(some, whole)].filter((origin) => origin >= 0)).toHaveLength(some.length);
      }),
    );
  });

  test.each([
    ['a line in the middle', ['a', 'b', 'c'], ['a', 'x', 'c'], [0, -1, 2]],
    ['a block that moved down', ['f', 'g', 'x', 'y', 'z'], ['x', 'y', 'z', 'f', 'g'], [2, 3, 4, -1, -1]],
    ['nothing before', [], ['a'], [-1]],
    ['nothing now', ['a'], [], []],
    [
      'braces around a new function',
      ['a', '{', '}', 'b', '{', '}'],
      ['a', '{', '}', 'n', '{', '}', 'b', '{', '}'],
      [0, 1, 2, -1, -1, -1, 3, 4, 5],
    ],
  ])('tells %s', (_, before, now, kept) => {
    expect([...keptLines(before, now)]).toEqual(kept);
  });

  test('of texts that have nothing in common cost no more than a bound', () => {
    const many = (letter: string): string[] => Array.from({ length: 60_000 }, (_, at) => `${letter}${at % 7}`);
    const started = performance.now();
    expect(keptLines(many('a'), many('b')).every((origin) => origin === -1)).toBe(true);
    expect(performance.now() - started).toBeLessThan(2_000);
  });

  /** Parts of which none has a line in common with its like on the other side, between lines that both have. */
  const apart = (letter: string, parts: number, each: number): string[] =>
    Array.from({ length: parts }, (_, part) => [`${part}`, ...Array<string>(each).fill(letter)]).flat();

  test('of many parts that have nothing in common cost no more than a bound, and the lines between them are told', () => {
    const work = new DiffWork();
    const kept = keptLines(apart('a', 500, 1_000), apart('b', 500, 1_000), work);
    expect(work.stepsTaken).toBeGreaterThan(1_000_000);
    expect(work.stepsTaken).toBeLessThanOrEqual(2_000_000);
    expect(kept.filter((origin) => origin >= 0)).toHaveLength(500);
  });

  test('cost no more than others have left', () => {
    const work = new DiffWork(1_000);
    keptLines(apart('a', 10, 100), apart('b', 10, 100), work);
    expect(work.stepsTaken).toBeLessThanOrEqual(1_000);
  });
});
