import * as fc from 'fast-check';
import { expect, test } from 'vitest';

import { decodePath } from '../../bytes-path.ts';
import type { Node } from '../change-set.ts';
import { sortedByBytes } from '../diff.ts';
import { encodeTree } from '../manifest.ts';
import { TreeText } from './tree-text.ts';

const part = fc.oneof(
  fc.constantFrom(
    'a',
    'b',
    'a-b',
    '["',
    '",{',
    '],["',
    '\\',
    '\\"',
    '}],',
    'é',
    '\u{1F600}',
    '\uE000',
    '\uDCFF',
    '.gitignore',
  ),
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 4 }),
  fc.uint8Array({ minLength: 1, maxLength: 3 }).map(decodePath),
);
const path = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
const digests = fc.constantFrom('a', 'b').map((of): `sha256:${string}` => `sha256:${of.repeat(64)}`);
const file = fc.record({ mode: fc.constantFrom(0o644 as const, 0o755 as const), digest: digests, sizeBytes: fc.nat() });
const node: fc.Arbitrary<Node> = fc.oneof(
  file.map((of) => ({ kind: 'file', ...of }) as const),
  part.map((target) => ({ kind: 'symlink', target }) as const),
  fc.constant({ kind: 'directory' } as const),
);
const entries = fc.array(fc.tuple(path, node), { maxLength: 40 }).map((list) => sortedByBytes(list));

test('with some entries changed, added and removed it is the text of the changed tree', () => {
  const undefinedNode = fc.constant(undefined);
  const changes = fc.array(fc.tuple(path, fc.oneof(node, undefinedNode)), { maxLength: 12 });
  fc.assert(
    fc.property(entries, changes, fc.array(fc.nat(), { maxLength: 6 }), (tree, some, gone) => {
      const change = new Map(some);
      const names = [...tree.keys()];
      for (const at of names.length === 0 ? [] : gone) change.set(names[at % names.length] ?? '', undefined);
      const after = new Map(tree);
      for (const [name, to] of change) {
        if (to === undefined) after.delete(name);
        else after.set(name, to);
      }
      const text = new TreeText(Buffer.from(encodeTree(tree))).with(change);
      expect(text.bytes.toString()).toBe(encodeTree(sortedByBytes(after)));
    }),
    { numRuns: 1000 },
  );
});

test('finds what is there, and nothing else', () => {
  fc.assert(
    fc.property(entries, path, (tree, other) => {
      const text = new TreeText(Buffer.from(encodeTree(tree)));
      for (const [name, is] of tree) expect(text.find(name)).toEqual(is);
      expect(text.find(other)).toEqual(tree.get(other));
      const called = [...tree.keys()].filter((name) => name.split('/').at(-1) === '.gitignore');
      expect(text.pathsOf('.gitignore')).toEqual(called);
    }),
    { numRuns: 500 },
  );
});
