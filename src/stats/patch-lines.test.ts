import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { linesBetween } from './patch-lines.ts';

const home = mkdtempSync(join(tmpdir(), 'glovebox-patch-lines-'));
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** What git makes of two files; `--binary` as patches of runs are made. */
function diff(before: string | Buffer, after: string | Buffer, ...args: string[]): Buffer {
  writeFileSync(join(home, 'before'), before);
  writeFileSync(join(home, 'after'), after);
  try {
    return execFileSync('git', ['diff', '--no-index', '--binary', ...args, 'before', 'after'], { cwd: home });
  } catch (error) {
    return (error as { readonly stdout: Buffer }).stdout; // 1: they differ
  }
}

function counted(before: string, after: string): number {
  const [added = '0', removed = '0'] = diff(before, after, '--numstat').toString('utf8').split('\t');
  return Number(added) + Number(removed);
}

const text = (lines: readonly string[]): string => lines.map((line) => `${line}\n`).join('');
const base = Array.from({ length: 40 }, (_, at) => `line ${at}`);
const put = (lines: readonly string[], at: number, ...more: string[]): string[] => lines.toSpliced(at, 1, ...more);

test.each([
  ['the same', put(base, 3, 'x'), put(base, 3, 'x')],
  ['one more line', put(base, 3, 'x'), put(base, 3, 'x', 'y')],
  ['a new line that was changed once more', put(base, 3, 'x'), put(base, 3, 'y')],
  ['another place as well', put(base, 3, 'x'), put(put(base, 3, 'x'), 30, 'y')],
  ['all taken back', put(base, 3, 'x', 'y', 'z'), base],
  ['a removed line that is there again', put(base, 3), base],
  ['lines that look like a header', put(base, 3, '-- a/f', '++ b/f'), put(base, 3, '-- a/f', '@@ -1 +1 @@')],
  ['a line that looks like another file', put(base, 3, 'diff --git a/x b/x'), put(base, 3, 'x')],
])('between two candidates of one base there are as many lines as git counts: %s', (_, before, after) => {
  const [one, other] = [diff(text(base), text(before)), diff(text(base), text(after))];
  expect(linesBetween(one, other)).toBe(counted(text(before), text(after)));
});

test('a file without a newline at its end, and one that is not there, are counted by their lines', () => {
  const old = diff('a\n', 'a\nb');
  expect(linesBetween(old, diff('a\n', 'a\nb\n'))).toBe(0); // the newline alone is no line
  expect(linesBetween(old, Buffer.alloc(0))).toBe(1);
  expect(linesBetween(Buffer.alloc(0), old)).toBe(1);
});

test('of binary files each that differs is one', () => {
  const [one, two] = [diff('a\n', Buffer.from([0, 1, 2])), diff('a\n', Buffer.from([0, 1, 2, 3]))];
  expect(linesBetween(one, one)).toBe(0);
  expect(linesBetween(one, two)).toBe(1);
  expect(linesBetween(Buffer.alloc(0), two)).toBe(1);
});

test.each(['@@ -1,999999999999999 +1,999999999999999 @@\n+a\n', '\0\n@@ nothing\n', '+a\n-b\n', 'GIT binary patch\nx'])(
  'what is no patch of ours ends, with a number: %j',
  (odd) => {
    expect(linesBetween(Buffer.from(odd), Buffer.alloc(0))).toBeGreaterThanOrEqual(0);
  },
);
