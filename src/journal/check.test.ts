import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { canonicalJson, digestOf, type Digest } from '../digest.ts';
import { checkJournal, formatCheck, type Check } from './check.ts';
import { formatEntry, hashOf } from './chain.ts';
import { Entry, lineBytesMax, type Draft } from './entry.ts';
import {
  attached,
  closed,
  denied,
  ended,
  intended,
  linesOf,
  lost,
  opened,
  started,
  storyOf,
  textOf,
  decided,
  egressEnded,
} from './story.fixture.ts';

let root: string;
let file: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'glovebox-check-'));
  file = join(root, 'journal.ndjson');
});
afterAll(async () => {
  await rm(root, { recursive: true, force: true });
});

async function check(content: string | Uint8Array | readonly string[], expectHead?: Digest): Promise<Check> {
  await writeFile(file, typeof content === 'string' || content instanceof Uint8Array ? content : textOf(content));
  return checkJournal(file, expectHead === undefined ? {} : { expectHead });
}

/** Changes the data of one line and gives it a right hash again. */
function forge(line: string, change: (entry: Record<string, unknown>) => void): string {
  const value = JSON.parse(line) as Record<string, unknown>;
  change(value);
  const entry = Entry.parse(value);
  return formatEntry({ ...entry, hash: hashOf(entry) });
}

describe('a journal as it was written', () => {
  test('is whole and closed, or open as long as the run is', async () => {
    const whole = await check(linesOf(storyOf(7)));
    expect(whole).toMatchObject({ verdict: 'closed', calls: 7, denied: 2, findings: [], openCalls: [] });
    expect(whole.head).toBe((JSON.parse(linesOf(storyOf(7)).at(-1) ?? '') as { hash: string }).hash);
    expect(await check(linesOf(storyOf(7, false)))).toMatchObject({ verdict: 'open', findings: [] });
    expect(await check(linesOf([opened, started, intended('a')]))).toMatchObject({ verdict: 'open', openCalls: ['a'] });
    expect(formatCheck(whole)).toEqual([
      `OK: whole and closed (${whole.entries} entries, 7 calls, 2 denied), head ${whole.head}`,
    ]);
  });

  test('is checked in the memory of one line, however long it is', async () => {
    const whole = await check(linesOf(storyOf(600)));
    expect(whole).toMatchObject({ verdict: 'closed', calls: 600 });
  });
});

describe('whatever is done to a journal is found, and the line named', () => {
  const length = fc.integer({ min: 1, max: 12 });
  const journal = length.map((calls) => linesOf(storyOf(calls)));
  const runs = { numRuns: 150 };

  test('any flipped bit of any byte', async () => {
    const bit = fc.integer({ min: 0, max: 7 });
    await fc.assert(
      fc.asyncProperty(journal, fc.nat(), bit, async (lines, where, bit) => {
        const bytes = Buffer.from(textOf(lines));
        const at = where % bytes.length;
        const line = bytes.subarray(0, at).toString('latin1').split('\n').length;
        bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
        const found = await check(bytes);
        expect(found.verdict).toBe('broken');
        expect(found.findings[0]?.line).toBe(line);
      }),
      { numRuns: 400 },
    );
  });

  test('any replaced byte, by any other', async () => {
    await fc.assert(
      fc.asyncProperty(journal, fc.nat(), fc.integer({ min: 1, max: 255 }), async (lines, where, offset) => {
        const bytes = Buffer.from(textOf(lines));
        const at = where % bytes.length;
        const line = bytes.subarray(0, at).toString('latin1').split('\n').length;
        bytes[at] = ((bytes[at] ?? 0) + offset) % 256;
        expect((await check(bytes)).findings[0]?.line).toBe(line);
      }),
      runs,
    );
  });

  test('any dropped line but the last', async () => {
    await fc.assert(
      fc.asyncProperty(journal, fc.nat(), async (lines, where) => {
        const at = where % (lines.length - 1);
        const found = await check(lines.toSpliced(at, 1));
        expect(found.findings).toEqual([
          { line: at + 1, kind: 'dropped', message: expect.stringContaining(`entry ${at + 1} is`) },
        ]);
      }),
      runs,
    );
  });

  test('any two lines swapped', async () => {
    await fc.assert(
      fc.asyncProperty(journal, fc.nat(), fc.nat(), async (lines, one, two) => {
        const [a, b] = [one % lines.length, two % lines.length].toSorted((x, y) => x - y) as [number, number];
        fc.pre(a !== b);
        const found = await check(lines.with(a, lines[b] ?? '').with(b, lines[a] ?? ''));
        if (b === a + 1) expect(found.findings).toMatchObject([{ line: a + 1, kind: 'swapped' }]);
        else expect(found.findings[0]).toMatchObject({ line: a + 1, kind: 'misplaced' });
        if (b > a + 1) expect(found.findings.map((finding) => finding.line)).toContain(b + 1);
      }),
      runs,
    );
  });

  test('any line written twice, next to itself or elsewhere', async () => {
    await fc.assert(
      fc.asyncProperty(journal, fc.nat(), fc.nat(), async (lines, one, two) => {
        const from = one % lines.length;
        const to = from + 1 + (two % (lines.length - from));
        const found = await check(lines.toSpliced(to, 0, lines[from] ?? ''));
        expect(found.findings).toMatchObject([{ line: to + 1, kind: 'duplicated' }]);
      }),
      runs,
    );
  });

  test('any cut: within a line it is torn, between lines the journal is no longer closed', async () => {
    await fc.assert(
      fc.asyncProperty(journal, fc.nat(), async (lines, where) => {
        const text = textOf(lines);
        const cut = text.slice(0, where % text.length);
        const found = await check(cut);
        if (cut === '') expect(found.findings).toMatchObject([{ line: 1, kind: 'empty' }]);
        else if (cut.endsWith('\n')) expect(found).toMatchObject({ verdict: 'open', findings: [] });
        else expect(found.findings).toMatchObject([{ line: cut.split('\n').length, kind: 'torn' }]);
      }),
      runs,
    );
  });

  test('any line rewritten with a new hash', async () => {
    await fc.assert(
      fc.asyncProperty(journal, fc.nat(), async (lines, where) => {
        const at = where % (lines.length - 1);
        const forged = forge(lines[at] ?? '', (entry) => (entry['mono'] = (entry['mono'] as number) + 1));
        expect((await check(lines.with(at, forged))).findings).toMatchObject([{ line: at + 1, kind: 'forged' }]);
      }),
      runs,
    );
  });

  test('a whole new chain, or a cut off end, when the head is known from elsewhere', async () => {
    const lines = linesOf(storyOf(3));
    const { head } = await check(lines);
    expect(await check(lines, head)).toMatchObject({ verdict: 'closed' });
    expect((await check(lines.slice(0, -1), head)).findings).toMatchObject([
      { line: lines.length - 1, kind: 'other_head' },
    ]);
    expect((await check(linesOf(storyOf(4)), head)).findings).toMatchObject([{ kind: 'other_head' }]);
  });
});

describe('one change gives one finding', () => {
  const lines = linesOf(storyOf(6));
  const other = linesOf(storyOf(6), '01hxxxxxxxxxxxxxxxxxxxxxxx');
  const cases: readonly [string, readonly string[], number, string][] = [
    ['an entry of another run in the place of ours', lines.with(4, other[4] ?? ''), 5, 'wrong_run'],
    ['an entry of another run between ours', lines.toSpliced(4, 0, other[4] ?? ''), 5, 'wrong_run'],
    ['an unknown key', lines.with(4, (lines[4] ?? '').replace('{', '{"Extra":1,')), 5, 'stranger'],
    ['an unknown type', lines.with(4, (lines[4] ?? '').replace('"type":"call.', '"type":"cell.')), 5, 'stranger'],
    ['a key twice', lines.with(4, (lines[4] ?? '').replace('{', '{"v":1,')), 5, 'edited'],
    ['a space between keys', lines.with(4, (lines[4] ?? '').replace(',"', ', "')), 5, 'edited'],
    ['an escape written otherwise', lines.with(0, (lines[0] ?? '').replace('make', '\\u006dake')), 1, 'edited'],
    ['a line that is empty', lines.toSpliced(4, 0, ''), 5, 'edited'],
    ['a line longer than any entry', lines.toSpliced(4, 0, 'x'.repeat(lineBytesMax * 3)), 5, 'too_long'],
    ['three dropped lines', lines.toSpliced(4, 3), 5, 'dropped'],
    ['a new first line', ['{}', ...lines], 1, 'stranger'],
  ];
  test.each(cases)('%s', async (_, changed, line, kind) => {
    expect((await check(changed)).findings).toMatchObject([{ line, kind }]);
  });

  test('two changes far apart give two', async () => {
    const changed = lines.with(2, (lines[2] ?? '').replace('echo', 'evil')).toSpliced(8, 1);
    expect((await check(changed)).findings).toMatchObject([
      { line: 3, kind: 'edited' },
      { line: 9, kind: 'dropped' },
    ]);
  });

  test('a file of anything is told line by line up to a bound, in printable characters', async () => {
    const junk = await check(Buffer.from('\u001b[2J\u202e\n'.repeat(5000)));
    expect(junk.findings.length).toBe(50);
    expect(formatCheck(junk).join('')).toMatch(/^[\x20-\x7e]*$/);
  });
});

describe('a chain that holds can still tell nonsense', () => {
  const cases: readonly [string, readonly Draft[], number, string][] = [
    ['an intent without outcome in a closed run', [opened, intended('a'), closed(1)], 2, 'unfinished_call'],
    ['an outcome without intent', [opened, ended('a'), closed(0)], 2, 'outcome_without_intent'],
    ['two outcomes', [opened, intended('a'), ended('a'), ended('a'), closed(1)], 4, 'second_outcome'],
    ['two intents', [opened, intended('a'), ended('a'), intended('a'), ended('a'), closed(2)], 4, 'second_intent'],
    ['a denial of what runs', [opened, intended('a'), denied('a'), ended('a'), closed(1, 1)], 3, 'inconsistent'],
    ['anything after the end', [opened, closed(0), lost], 3, 'after_close'],
    ['an end of egress that nothing announced', [opened, egressEnded(1), closed(0)], 2, 'odd_egress'],
    ['an end of what was denied', [opened, decided(1, 'denied'), egressEnded(1), closed(0)], 3, 'odd_egress'],
    ['two ends', [opened, decided(1), egressEnded(1), egressEnded(1), closed(0)], 4, 'odd_egress'],
    ['a number twice', [opened, decided(1, 'denied'), decided(1, 'denied'), closed(0)], 3, 'odd_egress'],
    ['a close before the end', [opened, decided(1), decided(2), egressEnded(2), closed(0)], 5, 'odd_egress'],
    ['a journal that does not begin', [started, closed(0)], 1, 'inconsistent'],
    ['a second beginning', [opened, opened, closed(0)], 2, 'inconsistent'],
    ['a context snapshot that is not the next', [opened, attached(1), attached(3), closed(0)], 3, 'inconsistent'],
    ['totals that are not those of the calls', [opened, intended('a'), ended('a'), closed(2)], 4, 'inconsistent'],
  ];
  test.each(cases)('%s', async (_, story, line, kind) => {
    const found = await check(linesOf(story));
    expect(found.findings).toMatchObject([{ line, kind }]);
    expect(found.verdict).toBe('broken');
  });

  test('and what is told of egress in its order is none', async () => {
    const story = [opened, decided(1), decided(2, 'denied'), decided(4, 'observed'), egressEnded(4), egressEnded(1)];
    expect(await check(linesOf([...story, closed(0)]))).toMatchObject({ verdict: 'closed', findings: [] });
    expect(await check(linesOf([opened, decided(1)]))).toMatchObject({ verdict: 'open', openEgress: [1] });
  });

  test('a policy under the digest of another', async () => {
    const data = structuredClone(opened.data) as Extract<Draft, { type: 'run.opened' }>['data'];
    const policy = { ...data.policy, digest: digestOf(canonicalJson({ name: 'other' })) };
    const found = await check(linesOf([{ type: 'run.opened', data: { ...data, policy } }, closed(0)]));
    expect(found.findings).toMatchObject([{ line: 1, kind: 'inconsistent' }]);
  });
});

test('a journal that cannot be read is not taken for an empty one', async () => {
  await expect(checkJournal(join(root, 'none'))).rejects.toMatchObject({ code: 'invalid_request' });
});
