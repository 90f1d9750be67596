import { array, assert, asyncProperty, boolean, constantFrom, tuple } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { digestOf, type Digest } from '../digest.ts';
import { blame, blameBytesMax, type Blame } from './blame.ts';
import type { Author, Version } from './versions.ts';

const call = (callId: string): Author => ({ kind: 'call', run: 'r', callId, late: false });

/** A file that had these contents one after the other; `undefined`: nobody kept it. */
async function blameOf(contents: readonly (string | Buffer | undefined)[]): Promise<Blame> {
  const kept = new Map<Digest, Buffer>();
  let last: Version | undefined;
  for (const [at, content] of contents.entries()) {
    const bytes = content === undefined ? undefined : Buffer.from(content);
    const digest = bytes === undefined ? undefined : digestOf(bytes);
    if (bytes !== undefined && digest !== undefined) kept.set(digest, bytes);
    last = { digest, author: at === 0 ? { kind: 'base' } : call(`c${at}`), before: last };
  }
  if (last === undefined) throw new Error('no version');
  return blame(last, async (digest) => kept.get(digest));
}

/** `c1 text` for each line; several authors with a slash. */
async function told(...contents: readonly (string | Buffer | undefined)[]): Promise<readonly string[]> {
  const found = await blameOf(contents);
  if (found.kind === 'whole') return [`${found.why} ${nameOf(found.author)}`];
  return found.lines.map(({ bytes, authors }) => `${authors.map(nameOf).join('/')} ${bytes}`);
}

function nameOf(author: Author): string {
  return author.kind === 'call' ? author.callId : author.kind;
}

describe('who wrote a line', () => {
  test('is the call that brought it, as long as it stays', async () => {
    expect(await told('a\nb\nc\n', 'a\nB\nc\n', 'x\na\nB\nc\nd\n')).toEqual([
      'c2 x',
      'base a',
      'c1 B',
      'base c',
      'c2 d',
    ]);
  });

  test('is who brought it back, where it was gone', async () => {
    expect(await told('a\nb\n', 'a\n', 'a\nb\n')).toEqual(['base a', 'c2 b']);
  });

  test('is whoever changed how it ends, but for a newline at the end of the file', async () => {
    expect(await told('a\nb', 'a\nb\n', 'a\r\nb\n')).toEqual(['c2 a\r', 'base b']);
    expect(await told('a\r\nb', 'a\r\nb\nc')).toEqual(['base a\r', 'base b', 'c1 c']);
  });

  test('is one of several where nobody kept what was in between', async () => {
    expect(await told('a\n', undefined, 'a\nb\n', 'a\nb\nc\n')).toEqual(['base a', 'c1/c2 b', 'c3 c']);
  });

  test('of a file that is empty is nobody', async () => {
    expect(await told('a\n', '')).toEqual([]);
  });

  test('is not told of what has no lines, only who wrote the whole', async () => {
    expect(await told('a\n', Buffer.from([65, 0, 10]))).toEqual(['binary c1']);
    expect(await told('a\n', 'x'.repeat(blameBytesMax + 1))).toEqual(['too_large c1']);
    expect(await told('a\n', undefined)).toEqual(['not_kept c1']);
    expect(await told('a\n', Buffer.from([65, 0, 10]), 'a\nb\n')).toEqual(['base a', 'c1/c2 b']);
  });

  test('is told of the newest versions, as many as fit in a bound, and others have their turn in between', async () => {
    let turns = 0;
    const clock = setInterval(() => (turns += 1), 1);
    const large = Array.from({ length: 34 }, (_, at) => `${'x'.repeat(1_000_000)}\n${at}\n`);
    const found = await told('first\n', ...large, 'last\n', `${'x'.repeat(1_000_000)}\n34\n`);
    clearInterval(clock);
    expect(found.map((line) => line.slice(0, 40))).toEqual(['c36 xxx'.padEnd(40, 'x'), 'c36 34']);
    expect(turns).toBeGreaterThan(5);
    const kept = await told('first\n', ...large);
    expect(kept[0]?.slice(0, 60)).toContain('base/c1/');
    expect(kept[1]).toBe('c34 33');
  });

  test('keeps every byte of a line that is no UTF-8', async () => {
    const found = await blameOf([Buffer.from([0xff, 0xfe, 10, 0xc3, 10])]);
    expect(
      found.kind === 'lines' && found.lines.map(({ bytes }) => Buffer.from(bytes, 'latin1').toString('hex')),
    ).toEqual(['fffe', 'c3']);
  });
});

describe('of any versions', () => {
  const line = constantFrom('a', 'b', 'c', 'd\r', '', 'é');
  const content = tuple(array(line, { maxLength: 12 }), boolean());
  const text = content.map(([lines, ended]) => lines.join('\n') + (ended && lines.length > 0 ? '\n' : ''));

  test('the blamed lines are the text as it is now, and each has one author, who had that line', async () => {
    await assert(
      asyncProperty(array(text, { minLength: 1, maxLength: 8 }), async (versions) => {
        const found = await blameOf(versions);
        if (found.kind !== 'lines') throw new Error('not told apart');
        const now = found.lines.map(({ bytes }) => Buffer.from(bytes, 'latin1').toString()).join('\n');
        expect(now).toBe((versions.at(-1) ?? '').replace(/\n$/, ''));
        for (const { bytes, authors } of found.lines) {
          expect(authors).toHaveLength(1);
          const [author] = authors;
          const at = author?.kind === 'call' ? Number(author.callId.slice(1)) : 0;
          for (const version of versions.slice(at)) expect(` ${linesOf(version)}\n`).toContain(`\n${bytes}\n`);
        }
      }),
    );
  });
});

function linesOf(text: string): string {
  return `\n${Buffer.from(text).toString('latin1')}\n`;
}
