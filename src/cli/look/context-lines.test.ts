import { stripVTControlCharacters } from 'node:util';
import { expect, test } from 'vitest';
import type { ContextView } from '../../contract/context-view.ts';
import { parseContext } from '../../context/context-snapshot.ts';
import { digestOf } from '../../digest.ts';
import { contextLines } from './context-lines.ts';

const run = '01hzzzzzzzzzzzzzzzzzzzzzzz';
const digest = digestOf('x');
const nobody = { lane: null, model: null };
const view: ContextView = {
  run,
  parts: [
    {
      lane: 'explore',
      model: 'quick-1',
      from: { run: '01hy', ...nobody },
      calls: 2,
      denied: 1,
      firstCall: 'a',
      lastCall: 'b',
      snapshots: 1,
    },
    {
      lane: 'commit',
      model: 'strong-2',
      from: { run, lane: 'explore', model: 'quick-1' },
      calls: 1,
      denied: 0,
      firstCall: 'c',
      lastCall: 'c',
      snapshots: 0,
    },
  ],
  applied: [{ run: '01hy', digest, changes: 4 }],
  snapshots: [
    {
      lane: null,
      model: 'quick-1',
      number: 1,
      digest,
      version: 3,
      at: 'before_compaction',
      time: '2026-01-01T12:34:56.000Z',
      summary: 'so it is',
      sources: 1,
      diffs: 1,
      tokens: { input: 7, output: 2 },
      cost: { amount: 0.5, currency: 'EUR' },
      by: null,
    },
  ],
  call: 'c',
  worker: { lane: 'commit', model: 'strong-2' },
  inForce: {
    number: 1,
    digest,
    time: '2026-01-01T12:34:56.000Z',
    snapshot: parseContext({
      version: 3,
      summary: 'so it is,\nand \u001b[2Jthe rest too\r',
      source_refs: ['a.ts:1\u202e'],
      diffs: [{ path: 'b\u0007', text: '@@\n+\u001b]0;x\u0007' }],
    }),
  },
};

test('who worked, what was said, and the belief behind a call, on a terminal that obeys nothing of it', () => {
  const text = contextLines(view).join('\n');
  expect(stripVTControlCharacters(text).split('\n')).toEqual([
    `run ${run}`,
    '  1  quick-1 in lane explore: 2 calls (a to b), 1 denied, handed over by somebody in run 01hy',
    '  2  strong-2 in lane commit: 1 call (c), handed over by quick-1 in lane explore',
    `  with 4 changes of run 01hy ${digest}`,
    '',
    'context snapshots',
    '  1  12:34:56  version 3 before compaction  quick-1  so it is  7 + 2 tokens, 0.5 EUR',
    '',
    'when strong-2 in lane commit made call c: context 1, of 2026-01-01T12:34:56.000Z',
    '    │ so it is,',
    String.raw`    │ and \x1b[2Jthe rest too\r`,
    '  it has that from',
    String.raw`    a.ts:1\u202e`,
    String.raw`  changed before: b\x07`,
    '    │ @@',
    String.raw`    │ +\x1b]0;x\x07`,
  ]);
});

test('a run in which nobody said anything says so', () => {
  const silent = { ...view, parts: [], applied: [], snapshots: [], call: null, inForce: null };
  expect(stripVTControlCharacters(contextLines(silent).at(-1) ?? '')).toBe(
    'now: nobody had said what the agent believes',
  );
});
