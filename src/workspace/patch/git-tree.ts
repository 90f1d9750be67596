import { createHash } from 'node:crypto';

import { encodePath } from '../../bytes-path.ts';
import type { Node } from '../change-set.ts';
import type { GitObject } from './git-pack.ts';

/** Files and links as git's trees, by their ids; `id` is the one that holds them all. */
export function treeOf<L extends Exclude<Node, { readonly kind: 'directory' }>>(
  leaves: ReadonlyMap<string, L>,
  idOf: (leaf: L) => string,
): { readonly id: string; readonly objects: ReadonlyMap<string, GitObject> } {
  const root: Directory = new Map();
  for (const [path, leaf] of leaves) {
    const names = path.split('/');
    const last = names.pop() ?? '';
    let directory = root;
    for (const name of names) {
      const below = directory.get(name);
      const next: Directory = below instanceof Map ? below : new Map();
      if (next !== below) directory.set(name, next);
      directory = next;
    }
    directory.set(last, { mode: modeOf(leaf), id: idOf(leaf) });
  }
  const objects = new Map<string, GitObject>();
  return { id: write(root, objects), objects };
}

interface Entry {
  readonly mode: string;
  readonly id: string;
}

type Directory = Map<string, Entry | Directory>;

function modeOf(leaf: Exclude<Node, { readonly kind: 'directory' }>): string {
  if (leaf.kind === 'symlink') return '120000';
  return leaf.mode === 0o755 ? '100755' : '100644';
}

/** As deep as the paths of a change set, which is bounded. */
function write(directory: Directory, objects: Map<string, GitObject>): string {
  const entries = Array.from(directory, ([name, below]) => {
    const { mode, id } = below instanceof Map ? { mode: '40000', id: write(below, objects) } : below;
    const bytes = encodePath(name);
    // git sorts a directory as if its name ended with a slash.
    const sortedAs = below instanceof Map ? Buffer.concat([bytes, Buffer.from('/')]) : bytes;
    return { sortedAs, parts: [Buffer.from(`${mode} `), bytes, Buffer.from([0]), Buffer.from(id, 'hex')] };
  });
  entries.sort((a, b) => Buffer.compare(a.sortedAs, b.sortedAs));
  const bytes = Buffer.concat(entries.flatMap(({ parts }) => parts));
  const id = createHash('sha1').update(`tree ${bytes.length}\0`).update(bytes).digest('hex');
  objects.set(id, { type: 'tree', sizeBytes: bytes.length, bytes });
  return id;
}
