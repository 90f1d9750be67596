import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { decodePath, encodePath } from '../bytes-path.ts';
import { canonicalJson } from '../digest.ts';
import type { ChangeSet, Tree } from './change-set.ts';
import { applyChangeSet, diffTrees, sortedByBytes } from './diff.ts';
import { digestOfChangeSet, digestOfTree, encodeChangeSet, encodeTree, parseChangeSet, parseTree } from './manifest.ts';
import { trees } from '../../test/fixtures/trees.ts';

const digest = `sha256:${'a'.repeat(64)}` as const;

describe('change sets', () => {
  test('base and change set give the tree they were made of', () => {
    fc.assert(
      fc.property(trees, trees, (base, now) => {
        const result = applyChangeSet(base, diffTrees(base, now));
        expect(result).toEqual(now);
        expect([...result.keys()]).toEqual([...now.keys()]);
      }),
      { numRuns: 300 },
    );
  });

  test('paths are in the order of their bytes, whatever is in them', () => {
    const names = fc.oneof(fc.string({ unit: 'grapheme' }), fc.uint8Array().map(decodePath));
    const some = fc.uniqueArray(
      fc.oneof(names, fc.constantFrom('a-b', 'a/b', 'a', 'é', '\uE000', '\u{1F600}', '\uDC80')),
    );
    fc.assert(
      fc.property(some, (paths) => {
        const sorted = [...sortedByBytes(paths.map((path) => [path, path] as const)).keys()];
        expect(sorted).toEqual(paths.toSorted((a, b) => Buffer.compare(encodePath(a), encodePath(b))));
      }),
    );
  });

  test('an untouched tree gives the empty set', () => {
    fc.assert(fc.property(trees, (tree) => diffTrees(tree, new Map(tree)).changes.size === 0));
  });

  test('they survive being written down, and their digest depends on content alone', () => {
    fc.assert(
      fc.property(trees, trees, fc.nat(), (base, now, seed) => {
        const set = diffTrees(base, now);
        const parsed = parseChangeSet(encodeChangeSet(set));
        expect(parsed).toEqual(set);
        expect([...parsed.changes.keys()]).toEqual([...set.changes.keys()]);
        const entries = [...set.changes];
        const turn = seed % (entries.length + 1);
        const shuffled: ChangeSet = { changes: new Map([...entries.slice(turn), ...entries.slice(0, turn)].reverse()) };
        expect(digestOfChangeSet(shuffled)).toBe(digestOfChangeSet(set));
        expect(parseTree(encodeTree(now))).toEqual(now);
        expect(encodeTree(now)).toBe(canonicalJson({ format: 'glovebox.tree/v1', entries: [...now] }));
      }),
    );
  });

  test('different trees have different digests', () => {
    fc.assert(
      fc.property(trees, trees, (one, other) => {
        expect(digestOfTree(one) === digestOfTree(other)).toBe(diffTrees(one, other).changes.size === 0);
      }),
    );
  });

  test('a set that does not fit its base is refused', () => {
    const base: Tree = new Map([['a', { kind: 'file', mode: 0o644, digest, sizeBytes: 1 }]]);
    const set: ChangeSet = { changes: new Map([['a/b', { kind: 'directory' }]]) };
    expect(() => applyChangeSet(base, set)).toThrow(expect.objectContaining({ code: 'export_refused' }));
  });

  const file = { kind: 'file', mode: 0o644, digest, sizeBytes: 0 };
  test.each([
    ['an escaping path', [['../x', file]]],
    ['an absolute path', [['/x', file]]],
    ['a path with an empty part', [['a//x', file]]],
    ['a NUL', [['a\0', file]]],
    ['a second spelling of a name', [['\uDCC3\uDCA9', file]]],
    ['a path that no bytes spell', [['\uD800', file]]],
    [
      'the same path twice',
      [
        ['a', file],
        ['a', file],
      ],
    ],
    ['a setuid mode', [['a', { ...file, mode: 0o4755 }]]],
    ['an unknown key', [['a', { ...file, uid: 0 }]]],
    ['an unknown kind', [['a', { kind: 'device' }]]],
    ['a digest that is none', [['a', { ...file, digest: 'sha256:../../x' }]]],
    ['a negative size', [['a', { ...file, sizeBytes: -1 }]]],
  ])('%s is not parsed', (_, entries) => {
    const text = JSON.stringify({ format: 'glovebox.change-set/v1', entries });
    expect(() => parseChangeSet(text)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
  });
});
