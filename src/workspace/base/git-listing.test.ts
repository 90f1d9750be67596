import * as fc from 'fast-check';
import { expect, test } from 'vitest';

import { commonLength } from './common-length.ts';
import { sameNames, type GitListing } from './git-listing.ts';

const none = Buffer.alloc(0);
const zeros = '0'.repeat(40);

function listing(staged: readonly string[], others = none, ignored = none): GitListing {
  return { staged: Buffer.from(staged.map((line) => `${line}\0`).join('')), others, ignored };
}
const line = (name: string, id = zeros, mode = '100644', stage = 0): string => `${mode} ${id} ${stage}\t${name}`;

test.each<readonly [string, GitListing, GitListing, boolean]>([
  ['nothing and nothing', listing([]), listing([]), true],
  ['another content', listing([line('a'), line('b')]), listing([line('a', '1'.repeat(40)), line('b')]), true],
  ['another content and mode of the last', listing([line('a')]), listing([line('a', '1'.repeat(40), '100755')]), true],
  ['an id of another length', listing([line('a'), line('b')]), listing([line('a', '1'.repeat(64)), line('b')]), true],
  ['one more', listing([line('a')]), listing([line('a'), line('b')]), false],
  ['one less', listing([line('a'), line('b')]), listing([line('b')]), false],
  ['another name', listing([line('a'), line('b')]), listing([line('a'), line('c')]), false],
  ['a name that goes on', listing([line('a')]), listing([line('ab')]), false],
  ['a name with a tab', listing([line('a\tb')]), listing([line('a\tc')]), false],
  ['a file that became a submodule', listing([line('a')]), listing([line('a', zeros, '160000')]), false],
  [
    'a submodule that moved on',
    listing([line('a', zeros, '160000')]),
    listing([line('a', '1'.repeat(40), '160000')]),
    true,
  ],
  ['an untracked file', listing([line('a')]), listing([line('a')], Buffer.from('u\0')), false],
  ['an ignored file', listing([line('a')]), listing([line('a')], none, Buffer.from('i\0')), false],
])('%s', (_, before, now, same) => {
  expect(sameNames(before, now)).toBe(same);
  expect(sameNames(now, before)).toBe(same);
});

test('what two texts have in common is found to the byte', () => {
  const text = fc.tuple(fc.integer({ min: 0, max: 200_000 }), fc.uint8Array({ maxLength: 8 }));
  fc.assert(
    fc.property(text, text, fc.nat(3), fc.nat(3), ([length, one], [otherLength, other], from, at) => {
      const a = Buffer.concat([Buffer.alloc(from + Math.min(length, otherLength)), one]);
      const b = Buffer.concat([Buffer.alloc(at + Math.min(length, otherLength)), other]);
      let expected = 0;
      while (from + expected < a.length && at + expected < b.length && a[from + expected] === b[at + expected])
        expected++;
      expect(commonLength(a, from, b, at)).toBe(expected);
    }),
    { numRuns: 50 },
  );
});
