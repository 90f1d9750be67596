import { setImmediate } from 'node:timers/promises';

import type { EarlierBase } from './base-writer.ts';
import type { Tree } from '../change-set.ts';
import { sameNode } from '../diff.ts';
import type { ImportOptions } from './import.ts';
import { defaultLimits } from '../limits.ts';
import type { SelectedFile, Selection } from './select.ts';
import { readingBuffer, readSteadily } from './steady-read.ts';
import type { BaseMeta, StoredBase } from './stored-base.ts';

/**
 * A base of another directory may be what this directory holds: a fresh clone, a second work tree. Nothing says so but
 * the contents. git's index could name them without reading, but what lies in a work tree is not what its objects say
 * wherever a filter, an encoding or an attribute of somebody's configuration was at work, and an index can be made to
 * say anything. So the files are read and compared; what is the same is not written once more.
 */
export function howUnlike(meta: BaseMeta, selection: Selection): number {
  let bytes = 0;
  for (const file of selection.files) if (file.kind === 'file') bytes += file.sizeBytes;
  const files = Math.abs(meta.files + meta.symlinks - selection.files.length);
  return Math.max(files / (selection.files.length + 1), Math.abs(meta.bytes - bytes) / (bytes + 1));
}

/** Past this, what is read to compare would cost more than it may save. */
export const unlikeMax = 0.25;

/** What the files look like if all of them, and nothing else, are in the base; undefined from the first that differs. */
export async function recognise(
  { tree }: { readonly tree: Tree },
  selection: Selection,
  options: ImportOptions,
): Promise<ReadonlyMap<string, string> | undefined> {
  if (!hasShapeOf(tree, selection)) return undefined;
  const { fileBytesMax } = { ...defaultLimits, ...options.limits };
  const identities = new Map<string, string>();
  const buffer = readingBuffer();
  let bytes = 0;
  for (const [index, file] of selection.files.entries()) {
    if (index % filesAtOnce === 0) {
      await setImmediate(); // the work is synchronous, for speed: others have their turn in between
      options.signal?.throwIfAborted();
      options.onProgress?.({ files: index, filesTotal: selection.files.length, bytes });
    }
    if (file.kind === 'symlink') continue;
    const known = tree.get(file.path);
    const { node, identity } = readSteadily(selection.root, file.path, buffer, fileBytesMax, () => () => undefined);
    if (known === undefined || !sameNode(known, node)) return undefined;
    if (identity !== undefined) identities.set(file.path, identity);
    bytes += node.sizeBytes;
  }
  return identities;
}

/** Files of which only reading can tell whether they are the base's. */
export function perhapsIn(base: StoredBase): EarlierBase {
  return {
    find(file) {
      const node = base.tree.get(file.path);
      if (node?.kind !== 'file' || file.kind !== 'file' || node.sizeBytes !== file.sizeBytes) return undefined;
      return { directory: base.files.directoryOf(file.path), node };
    },
  };
}

const filesAtOnce = 64;

function hasShapeOf(tree: Tree, { files, directories }: Selection): boolean {
  if (tree.size !== files.length + directories.length) return false;
  return directories.every((path) => tree.get(path)?.kind === 'directory') && files.every((file) => fits(tree, file));
}

function fits(tree: Tree, file: SelectedFile): boolean {
  const node = tree.get(file.path);
  if (file.kind === 'symlink') return node?.kind === 'symlink' && node.target === file.target;
  return node?.kind === 'file' && node.sizeBytes === file.sizeBytes;
}
