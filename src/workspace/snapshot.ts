import type { UnpackItem } from '../sandbox/spec.ts';
import type { BlobStore } from './blobs.ts';
import type { ChangeSet, Tree } from './change-set.ts';
import { ancestorsOf, sortedByBytes } from './diff.ts';

/**
 * A change set as what `files.unpack` takes, for a sandbox that holds the base: a fork is open(base) and this. What is
 * gone is removed first, deepest first; what is new belongs to the tools, because only they can have made it.
 */
export async function* toUnpackItems(
  base: Tree,
  changeSet: ChangeSet,
  blobs: BlobStore,
): AsyncGenerator<UnpackItem, void, undefined> {
  const sorted = [...sortedByBytes(changeSet.changes)];
  for (const [path, change] of [...sorted].reverse()) {
    const before = base.get(path);
    const replaced = before !== undefined && change.kind !== 'deleted' && before.kind !== change.kind;
    if (change.kind !== 'deleted' && !replaced) continue;
    // What goes with its directory needs no word of its own.
    if (ancestorsOf(path).some((above) => changeSet.changes.get(above)?.kind === 'deleted')) continue;
    yield { path, type: 'remove', mode: 0 };
  }
  for (const [path, change] of sorted) {
    if (change.kind === 'directory') yield { path, type: 'directory', mode: 0o755, owner: 'tool' };
    if (change.kind === 'symlink') yield { path, type: 'symlink', mode: 0o777, owner: 'tool', target: change.target };
    if (change.kind !== 'file') continue;
    const { mode, sizeBytes, digest } = change;
    const content = sizeBytes <= wholeBytesMax ? await blobs.get(digest) : blobs.stream(digest);
    yield { path, type: 'file', mode, owner: 'tool', content, sizeBytes };
  }
}

const wholeBytesMax = 1024 * 1024;
