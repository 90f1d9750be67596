import { chmodSync, chownSync } from 'node:fs';

import { toolGid, toolUid } from '../../sandbox/environment.ts';
import { parentOf } from '../diff.ts';
import type { Scope } from '../scope/scope.ts';

/** Whom an entry belongs to inside the sandbox; the kernel then enforces the write scope. */
export interface Ownership {
  readonly owner: 'root' | 'tool';
  readonly mode: number;
}

/**
 * Write scope is ownership. A file that may be changed is the tools', any other is root's. A directory is
 *  - the tools' where names may be made in it and nothing below it is root's;
 *  - root's and sticky where both meet: new names work, root's stay where they are;
 *  - root's and closed where nothing may be made.
 * `of('')` is the workspace itself.
 */
export function planOwnership(
  selection: { readonly files: readonly { readonly path: string }[]; readonly directories: readonly string[] },
  scope: Scope,
): { of(path: string): Ownership } {
  const children = new Map<string, Set<string>>();
  for (const directory of selection.directories) {
    const siblings = children.get(parentOf(directory)) ?? new Set();
    siblings.add(directory.slice(directory.lastIndexOf('/') + 1));
    children.set(parentOf(directory), siblings);
  }
  const planned = new Map<string, Ownership>();
  const holdsLocked = new Set<string>();
  for (const { path } of selection.files) {
    const known = scope.classOf(path);
    const owner = known === 'write' || known === 'scratch' ? 'tool' : 'root';
    planned.set(path, { owner, mode: 0o644 });
    if (owner === 'root') holdsLocked.add(parentOf(path));
  }
  // Deepest first: what is locked below decides above.
  for (const directory of [...selection.directories].reverse().concat('')) {
    const open = scope.mayCreateIn(directory, (name) => children.get(directory)?.has(name) === true);
    const owner = open && !holdsLocked.has(directory) ? 'tool' : 'root';
    planned.set(directory, { owner, mode: owner === 'root' && open ? 0o1777 : 0o755 });
    if (owner === 'root' && directory !== '') holdsLocked.add(parentOf(directory));
  }
  return { of: (path) => planned.get(path) ?? { owner: 'root', mode: 0o755 } };
}

/** Of a directory that was just made, or that is a copy of another. */
export function own(target: Buffer | string, { owner, mode }: Ownership): void {
  if (owner === 'tool') chownSync(target, toolUid, toolGid);
  else chownSync(target, 0, 0);
  chmodSync(target, mode); // after the owner: the mask of this process does not count
}
