import { lchownSync, lstatSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';

import { encodePath } from '../../bytes-path.ts';
import { RunnerError } from '../../errors.ts';
import { failpoint } from '../../failpoint.ts';
import { toolGid, toolUid } from '../../sandbox/environment.ts';
import type { Node } from '../change-set.ts';
import { parentOf, sameNode } from '../diff.ts';
import { defaultLimits } from '../limits.ts';
import type { Scope } from '../scope/scope.ts';
import { copied } from './base-writer.ts';
import { DeltaTree } from './delta-tree.ts';
import { hostName } from './host-path.ts';
import type { ImportOptions } from './import.ts';
import { isBroughtIn, type Difference } from './look.ts';
import { planOwnership, type Ownership } from './ownership.ts';
import type { SeenRows } from './seen.ts';
import { selectedAt, type Selection } from './select.ts';
import { readingBuffer } from './steady-read.ts';
import { countsAfter, type Counts, type StoredBase } from './stored-base.ts';
import type { TreeText } from './tree-text.ts';
import { makeWhiteout } from './whiteout.ts';

/** A base as what has changed since another one. */
export interface WrittenDelta {
  readonly text: TreeText;
  readonly counts: Counts;
  readonly root: Ownership;
  /** Of its names, in a directory of its own. */
  readonly count: number;
}

/**
 * Whether what has changed is worth a delta. A delta holds all that has changed since the whole base, so there is never more
 * than one over another; past an eighth of it, to link the names that stay costs less than what each later delta links again.
 */
export function isWorthDelta(before: StoredBase, difference: Difference): boolean {
  const { changed, removed, directoriesAdded, directoriesRemoved } = difference;
  const names = changed.length + removed.length + directoriesAdded.length + directoriesRemoved.length;
  const { files, symlinks, directories, delta } = before.meta;
  return (delta?.names ?? 0) + names <= Math.max(1, (files + symlinks + directories) / 8);
}

/**
 * Reads what may have changed since that base, and nothing else, and writes what did. `rows` are what the selection saw:
 * they are disbelieved where the content may still change unseen. Undefined where this machine, or a file that has as many
 * names as it may have, does not allow it.
 */
export async function writeDelta(
  before: StoredBase,
  difference: Difference,
  selection: Selection,
  scope: Scope,
  into: string,
  rows: SeenRows,
  options: ImportOptions,
): Promise<WrittenDelta | undefined> {
  const text = before.readText();
  const drafts = await writeDrafts(text, difference, selection, scope, into, rows, options);
  await failpoint('import.read');
  const changes = new Map<string, Node | undefined>();
  for (const name of difference.removed) changes.set(name, undefined);
  for (const name of difference.directoriesRemoved) changes.set(name, undefined);
  for (const name of difference.directoriesAdded) changes.set(name, { kind: 'directory' });
  for (const [name, { node }] of drafts) changes.set(name, node);
  const after = changes.size === 0 ? text : text.with(changes);
  const counts = countsAfter(before.meta, changes, text, scope);
  const { bytesMax } = { ...defaultLimits, ...options.limits };
  if (counts.bytes > bytesMax)
    throw new RunnerError(
      'import_refused',
      `import: ${selection.root} holds more than ${bytesMax} bytes; raise the limit`,
    );
  if (changes.size === 0) return { text, counts, root: before.meta.root, count: 0 };

  const ownershipOf = difference.isShapeSame ? ownershipIn(before) : ownershipAfter(selection, scope);
  const whiteout = difference.isShapeSame ? '' : await makeWhiteout(into, options.signal);
  if (whiteout === undefined) return undefined;
  try {
    const tree = new DeltaTree(path.join(into, 'tree'), before.whole, whiteout, ownershipOf);
    if (before.meta.delta !== undefined) tree.copy(before.directory);
    lay(tree, difference, drafts, new Set(selection.directories).add(''));
    return { text: after, counts, root: ownershipOf(''), count: tree.count };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EMLINK') throw error;
    rmSync(path.join(into, 'tree'), { recursive: true, force: true });
    return undefined;
  } finally {
    if (whiteout !== '') rmSync(whiteout, { force: true });
    rmSync(path.join(into, 'drafts'), { recursive: true, force: true });
  }
}

interface Draft {
  readonly node: Node;
  readonly file: string;
}

const filesAtOnce = 64;

/** What is not what the base has, written beside its place to be. */
async function writeDrafts(
  text: TreeText,
  { changed }: Difference,
  { root, look }: Selection,
  scope: Scope,
  into: string,
  rows: SeenRows,
  options: ImportOptions,
): Promise<ReadonlyMap<string, Draft>> {
  const { fileBytesMax } = { ...defaultLimits, ...options.limits };
  const drafts = new Map<string, Draft>();
  const buffer = readingBuffer();
  const directory = path.join(into, 'drafts');
  mkdirSync(directory, { mode: 0o700 });
  let bytes = 0;
  for (const [index, at] of changed.entries()) {
    if (index % filesAtOnce === 0) {
      await setImmediate(); // the work is synchronous, for speed: others have their turn in between
      options.signal?.throwIfAborted();
      options.onProgress?.({ files: index, filesTotal: changed.length, bytes });
    }
    const selected = selectedAt(look, at);
    const before = text.find(selected.path);
    const file = path.join(directory, `${index}`);
    const known = scope.classOf(selected.path);
    const owner = known === 'write' || known === 'scratch' ? 'tool' : 'root';
    let node: Node;
    if (selected.kind === 'symlink') {
      node = { kind: 'symlink', target: selected.target };
      symlinkSync(encodePath(selected.target), file);
      if (owner === 'tool') lchownSync(file, toolUid, toolGid);
    } else {
      const read = copied(root, selected, file, owner, buffer, fileBytesMax);
      node = read.node;
      bytes += read.node.sizeBytes;
      if (read.identity !== selected.seen?.identity) rows.disbelieve(at);
    }
    if (before !== undefined && sameNode(before, node)) rmSync(file);
    else drafts.set(selected.path, { node, file });
  }
  options.onProgress?.({ files: changed.length, filesTotal: changed.length, bytes });
  return drafts;
}

/** What goes first makes room for what comes. What goes with its directory needs no word of its own. */
function lay(
  tree: DeltaTree,
  { removed, directoriesRemoved, directoriesAdded }: Difference,
  drafts: ReadonlyMap<string, Draft>,
  directories: ReadonlySet<string>,
): void {
  for (const name of [...directoriesRemoved, ...removed]) {
    if (!directories.has(parentOf(name))) continue;
    tree.remove(name);
  }
  for (const name of directoriesAdded) tree.directory(name);
  for (const [name, { file }] of drafts) tree.put(name, file);
}

function ownershipAfter({ look }: Selection, scope: Scope): (directory: string) => Ownership {
  const files = look.names.flatMap((name, at) => (isBroughtIn(look.fates[at]) ? [{ path: name }] : []));
  const plan = planOwnership({ files, directories: look.directories }, scope);
  return (directory) => plan.of(directory);
}

/** Where no name comes or goes, a directory stays whose it was. */
function ownershipIn(before: StoredBase): (directory: string) => Ownership {
  return (directory) => {
    if (directory === '') return before.meta.root;
    const { uid, mode } = lstatSync(hostName(before.files.directoryOf(directory), directory));
    return { owner: uid === toolUid ? 'tool' : 'root', mode: mode & 0o7777 };
  };
}
