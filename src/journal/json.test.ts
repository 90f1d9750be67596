import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { isJson } from './json.ts';

const odd: readonly (readonly [what: string, value: unknown])[] = [
  ['a member that is left out', { a: undefined }],
  ['an item that would be null', [undefined]],
  ['a hole', [1, , 3]], // oxlint-disable-line no-sparse-arrays
  ['no number', NaN],
  ['an endless number', Infinity],
  ['a large number', 1n],
  ['a function', () => 1],
  ['a date', new Date(0)],
  ['a map', new Map([['a', 1]])],
  ['bytes', new Uint8Array(2)],
  ['an object that says itself what it is', { toJSON: () => 1 }],
  ['a member that readers lose', JSON.parse('{"a":{"__proto__":1}}')],
];

describe('isJson', () => {
  test.each(odd)('is not so of %s', (_, value) => {
    expect(isJson(value)).toBe(false);
    expect(isJson({ in: [value] })).toBe(false);
  });

  test('is so of whatever JSON gives back as it is', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const back: unknown = JSON.parse(JSON.stringify(value));
        expect(isJson(back)).toBe(!JSON.stringify(back).includes('"__proto__":'));
      }),
    );
  });

  test('is never so of what the schema of JSON refuses', () => {
    fc.assert(
      fc.property(fc.anything({ withBigInt: true, withDate: true, withMap: true, withTypedArray: true }), (value) => {
        if (isJson(value)) expect(z.json().safeParse(value).success).toBe(true);
      }),
    );
  });

  test('is so of texts up to a length, however deep they are', () => {
    expect(isJson({ a: ['x'.repeat(10)] }, 10)).toBe(true);
    expect(isJson({ a: ['x'.repeat(11)] }, 10)).toBe(false);
  });

  test('is not so of what is deeper than a bound, and asking that takes no stack', () => {
    const deep = (levels: number): unknown => JSON.parse(`${'['.repeat(levels)}${']'.repeat(levels)}`);
    expect(isJson(deep(64))).toBe(true);
    expect(isJson(deep(65))).toBe(false);
    expect(isJson({ a: deep(1_000_000) })).toBe(false);
  });
});
