import { expect, test } from 'vitest';

import { digestOf } from '../../digest.ts';
import type { Change, Node } from '../change-set.ts';
import { sortedByBytes } from '../diff.ts';
import { keepSafeChanges } from './export-check.ts';
import { Findings } from './findings.ts';
import { TreeIndex } from './tree-index.ts';

const directory: Node = { kind: 'directory' };
const file: Node = { kind: 'file', mode: 0o644, digest: digestOf(''), sizeBytes: 0 };
const gone: Change = { kind: 'deleted' };
const link = (target: string): Node => ({ kind: 'symlink', target });

/** Counts how often it is walked. */
class WalkedTree extends Map<string, Node> {
  walks = 0;

  override keys(): MapIterator<string> {
    this.walks++;
    return super.keys();
  }

  override [Symbol.iterator](): MapIterator<[string, Node]> {
    this.walks++;
    return super[Symbol.iterator]();
  }
}

const base: [string, Node][] = [
  ['Bare', directory],
  ['Bare/objects', directory],
  ['Bare/refs', directory],
  ['dir', directory],
  ['dir/a', file],
  ['dir/sub', directory],
  ['dir/sub/b', file],
  ['link', link('dir/sub')],
  ['ÄRGER', file],
];

function kept(changes: Record<string, Change>, index = new TreeIndex(new Map(base))): [string[], string[]] {
  const findings = new Findings();
  const safe = keepSafeChanges(index, sortedByBytes(Object.entries(changes)), findings);
  return [[...safe.keys()], findings.kept.map(({ kind, path }) => `${kind} ${path}`)];
}

test.each<[string, Record<string, Change>, string[], string[]]>([
  [
    'a directory goes with all that is in it',
    { dir: gone, 'dir/a': gone, 'dir/sub': gone, 'dir/sub/b': gone, link: gone },
    ['dir', 'dir/a', 'dir/sub', 'dir/sub/b', 'link'],
    [],
  ],
  [
    'a directory cannot go from under what stays',
    { dir: gone, 'dir/a': gone, 'dir/sub': gone },
    ['dir/a'],
    ['no_parent dir/sub', 'no_parent dir'],
  ],
  ['a file cannot take the place of a directory that stays filled', { 'dir/sub': file }, [], ['no_parent dir/sub']],
  ['what comes needs its directory', { 'new/x': file }, [], ['no_parent new/x']],
  ['a spelling that was freed can be used', { ÄRGER: gone, ärger: file }, ['ÄRGER', 'ärger'], []],
  [
    'a second spelling of what is there is refused',
    { ärger: file, Dir: directory },
    [],
    ['name_collision Dir', 'name_collision ärger'],
  ],
  [
    'two new spellings of one name are both refused',
    { x: file, X: file },
    [],
    ['name_collision X', 'name_collision x'],
  ],
  ['what makes a directory of the base a repository is refused', { 'Bare/HEAD': file }, [], ['git_metadata Bare/HEAD']],
  [
    'a link of the base that is bent by a new one takes that one out',
    { 'dir/sub': link('../..'), 'dir/sub/b': gone },
    ['dir/sub/b'],
    ['link_leaves_tree dir/sub'],
  ],
])('%s', (_, changes, safe, said) => {
  const [paths, findings] = kept(changes);
  expect(findings.toSorted()).toEqual(said.toSorted());
  expect(paths.toSorted()).toEqual(safe.toSorted());
});

test('a base is walked for its first export, and never again', () => {
  const tree = new WalkedTree(base);
  const index = new TreeIndex(tree);
  const changes = {
    dir: gone,
    'dir/a': gone,
    'dir/sub': gone,
    'dir/sub/b': gone,
    link: link('ÄRGER'),
    new: file,
  } as const;
  kept(changes, index);
  const first = tree.walks;
  expect(first).toBeGreaterThan(0);
  expect(kept(changes, index)).toEqual([Object.keys(changes), []]);
  kept({ 'dir/sub': file, x: file }, index);
  expect(tree.walks).toBe(first);
});
