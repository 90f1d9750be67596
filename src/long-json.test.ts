import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { isLong, jsonPieces, parseLong, rowBytes } from './long-json.ts';

/** So short that everything is long. */
const row = 64;
const lengths = [0, 1, row - 1, row, row + 1, 3 * row + 5];
const patterns = ['x', '"', '\\', '\u0000', 'é', '€', '😀', '\ud83d', '\\u0041"', 'a"b\\n\n', '","a":"'];

function written(value: unknown): Buffer {
  return Buffer.concat([...jsonPieces(value, row)]);
}

test('a long text comes out as it went in, whatever is in it and wherever it is cut', async () => {
  for (const pattern of patterns)
    for (const length of lengths) {
      const text = `-${pattern.repeat(length / pattern.length + 1)}`;
      const value = { callId: 'c', text, data: { text: `${text}!`, none: null, list: [1, text, false] } };
      const bytes = written(value);
      expect(JSON.parse(bytes.toString('utf8')), `${pattern} ${length}`).toEqual(value);
      expect(await parseLong(bytes, row), `${pattern} ${length}`).toEqual(value);
    }
});

test('what is written is read again, of any value, long or not', async () => {
  const long = fc.string({ unit: 'binary', maxLength: 40 }).map((text) => text.repeat(10));
  const value = fc.dictionary(
    fc.string(),
    fc.oneof(long, fc.jsonValue(), fc.array(fc.oneof(long, fc.jsonValue()), { maxLength: 4 })),
    { maxKeys: 4 },
  );
  await fc.assert(
    fc.asyncProperty(value, async (given) => {
      const bytes = written(given);
      const same = JSON.parse(JSON.stringify(given)) as unknown;
      expect(JSON.parse(bytes.toString('utf8'))).toEqual(same);
      expect(await parseLong(bytes, row)).toEqual(same);
    }),
  );
});

test('many short ones are long too, and no piece is much more than a row', () => {
  const entries = Array.from({ length: 50_000 }, (_, n) => ({
    path: `directory/${n}`,
    mode: 0o644,
    target: undefined,
  }));
  expect(isLong(entries)).toBe(true);
  expect(isLong({ entries: entries.slice(0, 100) })).toBe(false);
  const pieces = [...jsonPieces({ text: '\u0001'.repeat(4 * rowBytes), entries })];
  expect(Buffer.concat(pieces).toString('utf8')).toBe(JSON.stringify({ text: '\u0001'.repeat(4 * rowBytes), entries }));
  for (const piece of pieces) expect(piece.length).toBeLessThanOrEqual(8 * rowBytes);
});

test('what is cut off or no JSON at all is refused', async () => {
  const whole = written({ text: 'x'.repeat(3 * row), more: 1 });
  for (const length of [whole.length - 1, whole.length - 10, 2 * row])
    await expect(parseLong(whole.subarray(0, length), row)).rejects.toThrow(SyntaxError);
  await expect(parseLong(Buffer.from(`{"a":"${'\n'.repeat(2 * row)}"}`), row)).rejects.toThrow(SyntaxError);
});
