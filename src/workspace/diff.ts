import { encodePath } from '../bytes-path.ts';
import { RunnerError } from '../errors.ts';
import type { Change, ChangeSet, Node, Tree } from './change-set.ts';

/** What turns `base` into `now`. `applyChangeSet(base, diffTrees(base, now))` is `now`; equal trees give no change. */
export function diffTrees(base: Tree, now: Tree): ChangeSet {
  const changes: [string, Change][] = [];
  for (const [path, node] of now) {
    const before = base.get(path);
    if (before === undefined || !sameNode(before, node)) changes.push([path, node]);
  }
  for (const path of base.keys()) if (!now.has(path)) changes.push([path, { kind: 'deleted' }]);
  return { changes: sortedByBytes(changes) };
}

/** Throws `export_refused` when the result would be no tree: an entry whose parent is not a directory. */
export function applyChangeSet(base: Tree, changeSet: ChangeSet): Tree {
  const result = sortedByBytes(overlay(base, changeSet.changes));
  const stray = findStray(result);
  if (stray !== undefined) {
    const message = `change set: ${JSON.stringify(stray)} would lie in something that is no directory; the set does not fit this base`;
    throw new RunnerError('export_refused', message);
  }
  return result;
}

/** The entries after the changes, unsorted, whether or not they make a tree. */
export function overlay(base: Tree, changes: ReadonlyMap<string, Change>): Tree {
  const merged = new Map<string, Node>(base);
  for (const [path, change] of changes) {
    if (change.kind === 'deleted') merged.delete(path);
    else merged.set(path, change);
  }
  return merged;
}

function findStray(tree: Tree): string | undefined {
  for (const path of tree.keys()) {
    const parent = parentOf(path);
    if (parent !== '' && tree.get(parent)?.kind !== 'directory') return path;
  }
  return undefined;
}

export function sameNode(one: Node, other: Node): boolean {
  if (one.kind === 'file') return other.kind === 'file' && one.mode === other.mode && one.digest === other.digest;
  if (one.kind === 'symlink') return other.kind === 'symlink' && one.target === other.target;
  return other.kind === 'directory';
}

/** As `lstat` tells it. */
export function sizeOf(node: Node): number {
  if (node.kind === 'symlink') return encodePath(node.target).length;
  return node.kind === 'file' ? node.sizeBytes : 0;
}

export function sortedByBytes<T>(entries: Iterable<readonly [string, T]>): Map<string, T> {
  const list = [...entries];
  // Below the surrogates, the order of UTF-16 is that of UTF-8.
  if (!list.some(([path]) => /[\uD800-\uFFFF]/.test(path)))
    return new Map(list.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
  return new Map(
    list
      .map(([path, value]) => ({ bytes: encodePath(path), path, value }))
      .sort((a, b) => Buffer.compare(a.bytes, b.bytes))
      .map(({ path, value }) => [path, value]),
  );
}

/** The directory a path lies in; `''` is the workspace itself. */
export function parentOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '' : path.slice(0, slash);
}

/** All directories above a path, nearest first, without the workspace itself. */
export function ancestorsOf(path: string): readonly string[] {
  const ancestors: string[] = [];
  for (let at = parentOf(path); at !== ''; at = parentOf(at)) ancestors.push(at);
  return ancestors;
}
