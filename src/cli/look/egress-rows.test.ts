import { expect, test } from 'vitest';
import { Entry, type Draft } from '../../journal/entry.ts';
import { decided, egressEnded, linesOf, opened } from '../../journal/story.fixture.ts';
import { egressHeading, egressLine, EgressRows, egressTable, type EgressRow } from './egress-rows.ts';

function rowsOf(drafts: readonly Draft[]): {
  readonly rows: readonly EgressRow[];
  readonly rest: readonly EgressRow[];
} {
  const joined = new EgressRows();
  const entries = linesOf([opened, ...drafts]).map((line) => Entry.parse(JSON.parse(line)));
  const rows = entries.map((entry) => joined.push(entry)).filter((row) => row !== undefined);
  return { rows, rest: joined.rest };
}

test('what was decided and how it ended are one row, when it has ended', () => {
  const { rows, rest } = rowsOf([decided(1), decided(2), decided(3, 'denied'), egressEnded(2), egressEnded(1)]);
  expect(rows.map(({ id, decision, result }) => [id, decision, result])).toEqual([
    [3, 'denied', undefined],
    [2, 'allowed', 'done'],
    [1, 'allowed', 'done'],
  ]);
  expect(rest).toEqual([]);
  expect(rowsOf([decided(1)]).rest).toMatchObject([{ id: 1, result: 'open' }]);
});

test('denied, unresolvable, refused, timed out and cut are told apart', () => {
  const results = ['denied', 'unresolvable', 'refused', 'timed_out', 'cut'] as const;
  const drafts = results.flatMap((result, at): Draft[] => {
    const { status: _, ...data } = { ...(egressEnded(at + 1).data as EgressRow), result };
    return [decided(at + 1), { type: 'egress.ended', data } as Draft];
  });
  const lines = rowsOf(drafts).rows.map((row) => egressLine(row));
  for (const [at, result] of results.entries()) expect(lines[at]).toContain(` ${result} `);
});

test('nothing of what an agent asked for acts on a terminal, and long names do not hide what follows', () => {
  const { data } = decided(1, 'denied');
  const hostile = { ...data, host: `\u001b[2J${'x'.repeat(300)}`, path: '/\u202e\n', reason: '\u001b]0;owned\u0007' };
  const { rows } = rowsOf([{ type: 'egress.decided', data: hostile } as Draft]);
  for (const text of [egressTable(rows), ...rows.map((row) => egressLine(row))]) {
    expect(text.replaceAll('\n', '')).toMatch(/^[\x20-\x7e…]*$/);
    expect(text).toContain('\\x1b[2J');
    expect(text).toContain('\\x1b]0;owned\\x07');
  }
});

test('a table has a heading for every column, and a line as many cells', () => {
  const { rows } = rowsOf([decided(1), egressEnded(1)]);
  const [heading = '', line = ''] = egressTable(rows).split('\n');
  expect(heading.split(/ {2,}/)).toHaveLength(12);
  expect(line.split(/ {2,}/)).toHaveLength(12);
  expect(egressHeading().split(/ {2,}/)).toEqual(heading.split(/ {2,}/));
});
