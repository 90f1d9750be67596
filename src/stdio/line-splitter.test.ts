import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LineSplitter, type Line } from './line-splitter.ts';

function split(chunks: readonly Buffer[], lineBytesMax: number): Line[] {
  const splitter = new LineSplitter(lineBytesMax);
  return chunks.flatMap((chunk) => [...splitter.push(chunk)]);
}

/** What the lines of whole bytes are, told in the plainest way. */
function plainly(bytes: Buffer, lineBytesMax: number): Line[] {
  const pieces: Buffer[] = [];
  let start = 0;
  for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
    pieces.push(bytes.subarray(start, end));
    start = end + 1;
  }
  const unfinished = bytes.length - start > lineBytesMax ? [{ kind: 'too_long' as const }] : [];
  const lines = pieces.flatMap((piece): Line[] => {
    if (piece.length > lineBytesMax) return [{ kind: 'too_long' }];
    const text = piece.toString('utf8').replace(/\r$/, '');
    return text.trim() === '' ? [] : [{ kind: 'line', text }];
  });
  return [...lines, ...unfinished];
}

describe('lines', () => {
  test('come whole, wherever the bytes were cut', () => {
    expect(split([Buffer.from('{"a"'), Buffer.from(':1}\r\n\n{"b'), Buffer.from('":2}\n')], 100)).toEqual([
      { kind: 'line', text: '{"a":1}' },
      { kind: 'line', text: '{"b":2}' },
    ]);
  });

  test('that are too long are told once, and the next one is read again', () => {
    const chunks = [Buffer.alloc(40, 'x'), Buffer.alloc(80, 'x'), Buffer.alloc(80, 'x'), Buffer.from('\nok\n')];
    expect(split(chunks, 64)).toEqual([{ kind: 'too_long' }, { kind: 'line', text: 'ok' }]);
  });

  test('hold no more than the longest, however the bytes come', () => {
    const splitter = new LineSplitter(1000);
    const told = Array.from({ length: 100_000 }, () => [...splitter.push(Buffer.from('x'))]).flat();
    expect(told).toEqual([{ kind: 'too_long' }]);
  });

  test('any bytes in any cuts give the same lines as all at once', () => {
    const byte = fc.oneof(fc.constantFrom(10, 10, 13, 32, 0xc3, 0xff), fc.integer({ min: 0, max: 255 }));
    fc.assert(
      fc.property(fc.array(byte, { maxLength: 300 }), fc.array(fc.nat(300), { maxLength: 20 }), (bytes, cuts) => {
        const whole = Buffer.from(bytes);
        const places = [0, ...cuts.map((cut) => Math.min(cut, whole.length)).toSorted((a, b) => a - b), whole.length];
        const chunks = places.slice(1).map((end, at) => whole.subarray(places[at] ?? 0, end));
        expect(split(chunks, 32)).toEqual(plainly(whole, 32));
      }),
    );
  });
});
