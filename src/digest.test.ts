import { assert, dictionary, integer, property, string } from 'fast-check';
import { expect, test } from 'vitest';
import { canonicalJson } from './digest.ts';

test('members stand in the order of the UTF-16 units of their names, few or many', () => {
  const values = dictionary(string({ unit: 'binary' }), integer(), { maxKeys: 60, size: 'max' });
  assert(
    property(values, (value) => {
      const names = Object.keys(value).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
      const members = names.map((name) => `${JSON.stringify(name)}:${value[name]}`);
      expect(canonicalJson(value)).toBe(`{${members.join(',')}}`);
    }),
  );
});

test('what is undefined is left out, what JSON cannot hold is refused', () => {
  expect(canonicalJson({ b: undefined, a: [1, { d: null, c: 'x' }] })).toBe('{"a":[1,{"c":"x","d":null}]}');
  for (const wrong of [Number.NaN, undefined, [undefined], { a: 1n }])
    expect(() => canonicalJson(wrong)).toThrow(/canonical JSON cannot hold/);
});
