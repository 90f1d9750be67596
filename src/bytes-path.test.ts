import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { decodePath, encodePath } from './bytes-path.ts';

/** Bytes that are often almost UTF-8, where decoders go wrong. */
const tricky = fc.constantFrom(
  [0xc3, 0xa9],
  [0xc3],
  [0xa9],
  [0xed, 0xb2, 0x80],
  [0xed, 0xa0, 0x80],
  [0xef, 0xbf, 0xbd],
  [0xef, 0xbb, 0xbf],
  [0xf0, 0x9f, 0x98, 0x80],
  [0xf0, 0x9f, 0x98],
  [0xf4, 0x90, 0x80, 0x80],
  [0xe0, 0x80, 0x80],
  [0xc0, 0xaf],
  [0xff, 0xfe],
  [0x0a],
  [0x2f],
);
const bytes = fc
  .array(
    fc.oneof(
      tricky,
      fc.uint8Array({ maxLength: 4 }).map((array) => [...array]),
    ),
    { maxLength: 12 },
  )
  .map((parts) => Buffer.from(parts.flat()));

describe('file names', () => {
  test('any bytes survive being read as a string, also through JSON', () => {
    fc.assert(
      fc.property(bytes, (name) => {
        const text = decodePath(name);
        expect(encodePath(text)).toEqual(name);
        expect(encodePath(JSON.parse(JSON.stringify(text)) as string)).toEqual(name);
      }),
      { numRuns: 2000 },
    );
  });

  test('valid UTF-8 reads as itself', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(decodePath(Buffer.from(text, 'utf8'))).toBe(text);
      }),
      { numRuns: 1000 },
    );
  });

  test('different bytes read as different strings', () => {
    fc.assert(
      fc.property(bytes, bytes, (one, other) => {
        expect(decodePath(one) === decodePath(other)).toBe(one.equals(other));
      }),
      { numRuns: 2000 },
    );
  });

  test.each([
    ['a truncated sequence', [0x61, 0xc3], 'a\uDCC3'],
    ['an encoded surrogate', [0xed, 0xb2, 0x80], '\uDCED\uDCB2\uDC80'],
    ['a real replacement character', [0xef, 0xbf, 0xbd, 0xff], '\uFFFD\uDCFF'],
    ['a byte order mark', [0xef, 0xbb, 0xbf, 0x61], '\uFEFFa'],
  ])('%s is read exactly', (_, raw, text) => {
    expect(decodePath(Buffer.from(raw))).toBe(text);
  });
});
