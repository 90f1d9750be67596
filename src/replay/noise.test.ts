import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { Noise, noiseLineMax, type NoiseContext } from './noise.ts';

const then: NoiseContext = { openMs: [1_700_000_000_000, 1_700_000_060_000], names: ['01aaaaaaaaaaaaaaaaaaaaaaaa'] };
const now: NoiseContext = { openMs: [1_800_000_000_000, 1_800_000_060_000], names: ['01bbbbbbbbbbbbbbbbbbbbbbbb'] };

function same(line: string, other: string, patterns: readonly string[] = []): boolean {
  return new Noise(patterns).same({ line, context: then }, { line: other, context: now });
}

test.each([
  ['timestamps', 'built 2026-11-22T03:04:05.678Z ok', 'built 2026-11-23T13:14:15.001Z ok'],
  ['dates as programs print them', 'Sun Nov 22 03:34:12 UTC 2026', 'Mon Nov  3 23:04:00 UTC 2025'],
  ['dates in mails', 'Date: Sun, 22 Nov 2026 03:34:12 +0000', 'Date: Tue, 03 Nov 2026 13:04:22 +0000'],
  ['dates in lists', '-rw-r--r-- 1 a a 5 Nov 22 03:34 f', '-rw-r--r-- 1 a a 5 Dec  1 13:00 f'],
  ['clocks', '[03:04:05] begun', '[13:14:15.123] begun'],
  ['names of logs', '_logs/2026-11-22T03_04_05_678Z-debug-0.log', '_logs/2026-11-23T13_14_15_000Z-debug-0.log'],
  ['durations', '14 passed in 0.12s', '14 passed in 1.50s'],
  ['durations of a shell', 'real 0m0.003s', 'real 1m10.230s'],
  ['durations by name', 'duration_ms 12.345', 'duration_ms 1.5'],
  ['durations in attributes', '<testcase name="a" time="0.004"/>', '<testcase name="a" time="1.2"/>'],
  ['one second and two', 'took 1 second', 'took 2 seconds'],
  ['temporary names', '/tmp/tmp.Qa81xYz0aB', '/tmp/tmp.0000000000'],
  ['temporary names of Python', 'in /tmp/tmpabcd_123/x', 'in /tmp/tmpzzzz9999/x'],
  ['temporary names of Node', 'in /tmp/app-a1B2c3', 'in /tmp/app-000000'],
  ['addresses', '<object at 0x7f3a2c1d>', '<object at 0x7fffffff>'],
  ['process ids', 'server (pid 17) is up', 'server (pid 4211) is up'],
  ['process ids in logs', 'sshd[17]: up', 'sshd[4211]: up'],
  ['moments', 'now 1700000001', 'now 1800000059.5'],
  ['moments in milliseconds', 'now=1700000001000', 'now=1800000000123'],
  ['names of the run', `host ${then.names[0]}`, `host ${now.names[0]}`],
])('%s are noise', (_, one, other) => {
  expect(same(one, other)).toBe(true);
});

test.each([
  ['numbers', '3 passed', '4 passed'],
  ['versions', 'node v20.1.2', 'node v20.1.3'],
  ['exit codes', 'exit 1', 'exit 2'],
  ['sizes', '12 kB', '13 kB'],
  ['hashes', 'a94a8fe5ccb19ba6', 'a94a8fe5ccb19ba7'],
  ['numbers of ten digits that are no moment of the run', 'seed 1600000001', 'seed 1600000002'],
  ['a moment and another number', 'now 1700000001', 'now 42'],
  ['a moment of the other run', 'now 1800000001', 'now 1700000001'],
  ['colours', '0xff00aa', '0xff00ab'],
  ['paths in /tmp that somebody has chosen', '/tmp/report.txt', '/tmp/result.txt'],
  ['a duration and none', 'took 1s', 'took long'],
  ['a name of the other run', `host ${then.names[0]}`, `host ${then.names[0]}x`],
  ['what stands beside noise', '1 failed in 0.1s', '2 failed in 0.1s'],
])('%s are not', (_, one, other) => {
  expect(same(one, other)).toBe(false);
});

test('what a policy calls noise is noise, and is told by its pattern; what it does not match is not', () => {
  const noise = new Noise(['build [0-9a-f]{8}', 'worker #\\d+']);
  const ask = (line: string, other: string): boolean =>
    noise.same({ line, context: then }, { line: other, context: now });
  expect(ask('build 0123abcd by worker #1', 'build ffffffff by worker #22')).toBe(true);
  expect(ask('build 0123abcd', 'build 0123abc')).toBe(false);
  expect(ask('worker #1 in 1s', 'worker #2 in 2s')).toBe(true);
  expect(noise.met).toEqual([
    { by: 'build [0-9a-f]{8}', declared: 'policy', lines: 1 },
    { by: 'worker #\\d+', declared: 'policy', lines: 2 },
    { by: 'duration', declared: 'always', lines: 1 },
  ]);
});

test('a line that is too long is compared as it is, and no line takes long, whatever is in it', () => {
  const long = 'x'.repeat(noiseLineMax);
  expect(same(`1s ${long}`, `2s ${long}`)).toBe(false);
  const begun = performance.now();
  for (const unit of ['1', '1.', 'a', '/tmp/', '12:', ' ', '0x'])
    same(unit.repeat(noiseLineMax / unit.length - 1), `${unit.repeat(noiseLineMax / unit.length - 2)}y`, ['(a*)*b']);
  expect(performance.now() - begun).toBeLessThan(5000);
});

test('whatever is printed: it is the same as itself, the same both ways, and a letter more is not noise', () => {
  const words = fc.constantFrom(
    '1s',
    'pid 12',
    '2026-11-22T03:04:05Z',
    'tmp.abcdefghij',
    'ok',
    'é',
    '42',
    '0x7f3a2c1d00',
    ' ',
  );
  const lines = fc.array(fc.oneof(words, fc.string({ maxLength: 8 })), { maxLength: 8 }).map((all) => all.join(' '));
  fc.assert(
    fc.property(lines, lines, (one, other) => {
      expect(same(one, one)).toBe(true);
      const noise = new Noise([]);
      const there = noise.same({ line: one, context: then }, { line: other, context: then });
      expect(noise.same({ line: other, context: then }, { line: one, context: then })).toBe(there);
      expect(same(one, `${one} and this`)).toBe(false);
    }),
    { numRuns: 200 },
  );
});
