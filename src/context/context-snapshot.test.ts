import { describe, expect, test } from 'vitest';
import { canonicalJson, digestOf } from '../digest.ts';
import {
  contextBytesMax,
  digestOfContext,
  encodeContext,
  parseContext,
  parseEncodedContext,
  type ContextSnapshotInput,
} from './context-snapshot.ts';

const said: ContextSnapshotInput = {
  version: 3,
  summary: 'read() drops the last line',
  source_refs: ['src/read.ts:10-24', 'call c7'],
  diffs: [{ path: 'src/read.ts', text: '@@ -10 +10 @@' }],
  model: 'strong-2',
  lane: 'commit',
  tokens: { input: 12_000, output: 800 },
  cost: { amount: 0.12, currency: 'EUR' },
  at: 'before_compaction',
};

describe('a context snapshot', () => {
  test('has one form, which its digest names and which is read back as it was', () => {
    const snapshot = parseContext(said);
    const text = encodeContext(snapshot);
    expect(text).toBe(canonicalJson(said));
    expect(digestOfContext(snapshot)).toBe(digestOf(text));
    expect(parseEncodedContext(text, digestOf(text))).toEqual(snapshot);
  });

  test('needs no more than a version and a summary', () => {
    expect(parseContext({ version: 0, summary: 'begins' })).toEqual({
      version: 0,
      summary: 'begins',
      source_refs: [],
      diffs: [],
      at: 'other',
    });
  });

  test.each<[string, unknown, RegExp]>([
    ['no object', 'I believe', /invalid input/i],
    ['a key that it does not have', { ...said, beliefs: [] }, /unrecognized key/i],
    ['no summary', { version: 1 }, /summary: /],
    ['an empty summary', { ...said, summary: '' }, /summary: /],
    ['a summary that is a book', { ...said, summary: 'a'.repeat(32_769) }, /summary: /],
    ['a version that is none', { ...said, version: 1.5 }, /version: /],
    ['a thousand sources', { ...said, source_refs: Array.from({ length: 1000 }, () => 'a') }, /source_refs: /],
    ['a source within a source', { ...said, source_refs: [['a']] }, /source_refs\.0: /],
    ['a diff with more to it', { ...said, diffs: [{ path: 'a', text: '', mode: 1 }] }, /diffs\.0: /],
    ['a lane that no policy could have', { ...said, lane: 'Commit lane' }, /lane: /],
    ['tokens below nothing', { ...said, tokens: { input: -1, output: 0 } }, /tokens\.input: /],
    ['a cost without end', { ...said, cost: { amount: Infinity, currency: 'EUR' } }, /cost\.amount: /],
    ['money of nowhere', { ...said, cost: { amount: 1, currency: 'euros' } }, /cost\.currency: /],
    ['a moment that there is not', { ...said, at: 'lunch' }, /at: /],
  ])('is refused with %s', (_, input, why) => {
    expect(() => parseContext(input)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    expect(() => parseContext(input)).toThrow(why);
  });

  test('that is too large as a whole is another error than one that is wrong', () => {
    const diffs = Array.from({ length: 9 }, (_, at) => ({ path: `f${at}`, text: 'x'.repeat(32_768) }));
    expect(() => parseContext({ ...said, diffs })).toThrow(expect.objectContaining({ code: 'limit_exceeded' }));
    const fitting = encodeContext(parseContext({ ...said, diffs: diffs.slice(0, 7) }));
    expect(Buffer.byteLength(fitting)).toBeLessThan(contextBytesMax);
  });

  test('of the disk is what its digest names, in its one form, or nothing', () => {
    const text = encodeContext(parseContext(said));
    const other = text.replace('drops', 'keeps');
    expect(() => parseEncodedContext(other, digestOf(text))).toThrow(/was attached as/);
    expect(() => parseEncodedContext(`${text} `, digestOf(`${text} `))).toThrow(/one form/);
    expect(() => parseEncodedContext('{', digestOf('{'))).toThrow(/no context snapshot/);
  });
});
