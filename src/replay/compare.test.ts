import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { compareChangeSets } from './change-sets.ts';
import { compareEnds, comparePrinted, type Ended, type Extent } from './compare.ts';
import { Noise, type NoiseContext } from './noise.ts';
import { digestOf } from '../digest.ts';
import type { Change } from '../workspace/change-set.ts';
import { digestOfChangeSet } from '../workspace/manifest.ts';

const context: NoiseContext = { openMs: [0, 0], names: [] };

function printed(then: string, now: string, extent: Extent = 'whole') {
  const latin1 = (text: string): string => Buffer.from(text).toString('latin1');
  const of = (text: string) => ({ text: latin1(text), context });
  return comparePrinted('output', of(then), of(now), { noise: new Noise([]), extent });
}

test.each<readonly [string, Ended, Ended, string | undefined]>([
  [
    'the same',
    { outcome: { kind: 'exited', code: 0 }, exitCode: 0 },
    { outcome: { kind: 'exited', code: 0 }, exitCode: 0 },
    undefined,
  ],
  ['another code', { outcome: { kind: 'exited', code: 0 } }, { outcome: { kind: 'exited', code: 3 } }, 'outcome'],
  ['a clock', { outcome: { kind: 'exited', code: 0 } }, { outcome: { kind: 'timed_out', afterMs: 5 } }, 'outcome'],
  [
    'the same clock',
    { outcome: { kind: 'timed_out', afterMs: 5 } },
    { outcome: { kind: 'timed_out', afterMs: 5.2 } },
    undefined,
  ],
  [
    'other words',
    { outcome: { kind: 'not_started', reason: 'not_found', message: 'a' } },
    { outcome: { kind: 'not_started', reason: 'not_found', message: 'b' } },
    undefined,
  ],
  [
    'another error',
    { outcome: { kind: 'failed' }, error: 'no_match' },
    { outcome: { kind: 'failed' }, error: 'not_found' },
    'error',
  ],
  [
    'another signal',
    { outcome: { kind: 'signaled', signal: 9 } },
    { outcome: { kind: 'signaled', signal: 15 } },
    'outcome',
  ],
])('how it ended: %s', (_, then, now, aspect) => {
  expect(compareEnds(then, now)?.aspect).toBe(aspect);
});

test('the first line that differs is named, with what stands around it', async () => {
  const found = await printed('a\nb\nin 1s\nd\ne\n', 'a\nb\nin 2s\nD\ne\n');
  expect(found).toEqual({
    aspect: 'output',
    expected: 'line 4: d',
    found: 'line 4: D',
    diff: [' a', ' b', ' in 1s', '-d', '-e', '-', '+D', '+e', '+'],
  });
  expect(await printed('a\nin 1s\n', 'a\nin 2s\n')).toBeUndefined();
});

test('a line more or less, and an end without a newline, are a difference', async () => {
  expect((await printed('a\n', 'a\nb\n'))?.found).toBe('line 2: b');
  expect((await printed('a\nb', 'a'))?.found).toBe('line 2: (nothing: the end)');
  expect(await printed('a', 'a\n')).toBeDefined();
  expect(await printed('', 'x')).toBeDefined();
});

test('of what a clock has cut off, both are the same as far as both have whole lines', async () => {
  expect(await printed('tick 1\ntick 2\nti', 'tick 1\ntick 2\ntick 3\n', 'begun')).toBeUndefined();
  expect(await printed('', 'tick 1\n', 'begun')).toBeUndefined();
  expect((await printed('tick 1\nboom\n', 'tick 1\ntick 2\n', 'begun'))?.expected).toBe('line 2: boom');
});

test('bytes that are no text are compared as bytes, and what is shown obeys nothing', async () => {
  const bytes = (...all: number[]) => ({ text: Buffer.from(all).toString('latin1'), context });
  const noise = new Noise([]);
  expect(await comparePrinted('output', bytes(0xff), bytes(0xfe), { noise })).toBeDefined();
  const rude = await printed('\u001b[2Jone\n', '\u001b[2Jtwo\u202e\n');
  expect(JSON.stringify(rude)).not.toMatch(/\\u001b|\u202e/u);
  expect(rude?.found).toBe(String.raw`line 1: \x1b[2Jtwo\u202e`);
});

test('a great many noisy lines are not the same because nobody looks at them any more', async () => {
  const lines = (from: number) => Array.from({ length: 60_000 }, (_, n) => `step ${n} took ${from + n} ms`).join('\n');
  expect((await printed(lines(1), lines(2)))?.expected).toContain('too many lines before it are noise');
}, 20_000);

test('whatever was printed, noise in it or not: what is fabricated at line k is found at line k, and nowhere without it', async () => {
  const line = fc.constantFrom('ok', 'in 3 ms', 'pid 7', '', 'é', '2026-11-22T03:04:05Z done');
  const noisy: Readonly<Record<string, string>> = { 'in 3 ms': 'in 41 ms', 'pid 7': 'pid 99' };
  await fc.assert(
    fc.asyncProperty(fc.array(line, { minLength: 1, maxLength: 40 }), fc.nat(), async (lines, seed) => {
      const again = lines.map((one) => noisy[one] ?? one);
      expect(await printed(lines.join('\n'), again.join('\n'))).toBeUndefined();
      const at = seed % lines.length;
      const changed = again.map((one, index) => (index === at ? `${one} but not quite` : one));
      const found = await printed(lines.join('\n'), changed.join('\n'));
      expect(found?.found.startsWith(`line ${at + 1}: `)).toBe(true);
    }),
    { numRuns: 100 },
  );
});

test('of what is left behind nothing is noise: each path that differs is named', () => {
  const file = (text: string): Change => ({
    kind: 'file',
    mode: 0o644,
    digest: digestOf(text),
    sizeBytes: text.length,
  });
  const set = (changes: Readonly<Record<string, Change>>) => {
    const changeSet = { changes: new Map(Object.entries(changes)) };
    return { changeSet, digest: digestOfChangeSet(changeSet) };
  };
  const then = set({ a: file('1s'), b: { kind: 'deleted' }, 'c\u001b': { kind: 'symlink', target: 'a' } });
  expect(compareChangeSets(then, then.changeSet)).toBeUndefined();
  const now = set({ a: file('2s'), 'c\u001b': { kind: 'symlink', target: 'b' } });
  const found = compareChangeSets(then, now.changeSet);
  expect(found).toMatchObject({
    aspect: 'change_set',
    expected: expect.stringContaining('and 2 more paths') as string,
  });
  expect(found?.diff.map((one) => one.split(':')[0])).toEqual(['-a', '+a', '-b', '+b', '-c\\x1b', '+c\\x1b']);
});
