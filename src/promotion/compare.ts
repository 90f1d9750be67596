import { encodePath } from '../bytes-path.ts';
import type { ManifestChange, ManifestNode } from '../bundle/manifest.ts';
import { digestOf } from '../digest.ts';
import type { Node, Tree } from '../workspace/change-set.ts';
import { foldedName } from '../workspace/changes/fold.ts';
import { ancestorsOf } from '../workspace/diff.ts';
import type { BorrowedObjects, TreeEntry } from './target/objects.ts';

type Entries = ReadonlyMap<string, TreeEntry>;
type Expected = Exclude<ManifestNode, { readonly kind: 'directory' }>;

/** Where a change cannot be applied because something else is there than the run began with. */
export interface Conflict {
  readonly path: string;
  readonly why: string;
}

/** What the changes would meet at a commit. Paths are those of the repository. */
export async function findConflicts(
  objects: BorrowedObjects,
  entries: Entries,
  changes: readonly ManifestChange[],
): Promise<readonly Conflict[]> {
  const conflicts: Conflict[] = [];
  const leaves = changes.filter((change) => isLeaf(change.before) || isLeaf(change.after));
  const expected = leaves.flatMap(({ path, before }) => (isLeaf(before) ? [[path, before] as const] : []));
  const differing = await findDiffering(objects, entries, expected);
  const byPath = new Map(leaves.map((change) => [change.path, change]));
  const surroundings = new Surroundings(entries);
  for (const { path, before, after } of leaves) {
    if (differing.has(path)) conflicts.push({ path, why: `it is no longer what the run began with` });
    else if (!isLeaf(before) && entries.has(path)) conflicts.push({ path, why: 'something is there now' });
    else if (isLeaf(after)) {
      const why = surroundings.inTheWayOf(path, (other) => byPath.get(other));
      if (why !== undefined) conflicts.push({ path, why });
    }
  }
  return conflicts;
}

/** Files that the run saw and did not change, and that are others at the commit, or not there. */
export async function findMoved(
  objects: BorrowedObjects,
  entries: Entries,
  base: Tree,
  changed: ReadonlySet<string>,
): Promise<readonly string[]> {
  const seen: (readonly [string, Expected])[] = [];
  for (const [path, node] of base)
    if (!changed.has(path) && node.kind !== 'directory') seen.push([path, expectedOf(node)]);
  return [...(await findDiffering(objects, entries, seen))].sort();
}

/** Of two commits, what differs. */
export function differingEntries(before: Entries, now: Entries): readonly string[] {
  const paths = new Set([...before.keys(), ...now.keys()]);
  return [...paths].filter((path) => !isSameEntry(before.get(path), now.get(path))).sort();
}

export function isSameEntry(one: TreeEntry | undefined, other: TreeEntry | undefined): boolean {
  return one?.mode === other?.mode && one?.id === other?.id;
}

function isLeaf(node: ManifestNode | undefined): node is Expected {
  return node !== undefined && node.kind !== 'directory';
}

function expectedOf(node: Exclude<Node, { readonly kind: 'directory' }>): Expected {
  if (node.kind === 'symlink') return node;
  return { kind: 'file', mode: node.mode === 0o755 ? 0o755 : 0o644, digest: node.digest, bytes: node.sizeBytes };
}

/** Contents are read and hashed: what git calls them is whatever the repository says. */
async function findDiffering(
  objects: BorrowedObjects,
  entries: Entries,
  expected: readonly (readonly [string, Expected])[],
): Promise<ReadonlySet<string>> {
  const differing = new Set<string>();
  const waiting = new Map<string, (readonly [string, Expected])[]>();
  for (const [path, node] of expected) {
    const entry = entries.get(path);
    if (entry === undefined || entry.mode !== modeOf(node)) differing.add(path);
    else waiting.set(entry.id, [...(waiting.get(entry.id) ?? []), [path, node]]);
  }
  for await (const [id, content] of objects.contents(waiting.keys())) {
    for (const [path, node] of waiting.get(id) ?? []) {
      const isSame = node.kind === 'file' ? digestOf(content) === node.digest : content.equals(encodePath(node.target));
      if (!isSame) differing.add(path);
    }
  }
  return differing;
}

function modeOf(node: Expected): TreeEntry['mode'] {
  if (node.kind === 'symlink') return '120000';
  return node.mode === 0o755 ? '100755' : '100644';
}

/** What lies above, below and beside a path, by the names that some file systems tell apart and others do not. */
class Surroundings {
  readonly #entries: Entries;
  readonly #directories = new Map<string, string[]>();
  readonly #folded = new Map<string, string>();

  constructor(entries: Entries) {
    this.#entries = entries;
    for (const path of entries.keys()) {
      this.#folded.set(foldedName(path), path);
      for (const above of ancestorsOf(path)) {
        const below = this.#directories.get(above);
        if (below === undefined) {
          this.#directories.set(above, [path]);
          this.#folded.set(foldedName(above), above);
        } else below.push(path);
      }
    }
  }

  inTheWayOf(path: string, changeAt: (path: string) => ManifestChange | undefined): string | undefined {
    const stays = (other: string): boolean => {
      const change = changeAt(other);
      return change === undefined || isLeaf(change.after);
    };
    const above = ancestorsOf(path).find((directory) => this.#entries.has(directory) && stays(directory));
    if (above !== undefined) return `${JSON.stringify(above)} is no directory there`;
    const below = (this.#directories.get(path) ?? []).find(stays);
    if (below !== undefined) return `a directory with ${JSON.stringify(below)} is there, which the run did not see`;
    for (const name of [path, ...ancestorsOf(path)]) {
      const other = this.#folded.get(foldedName(name));
      if (other !== undefined && other !== name && stays(other))
        return `${JSON.stringify(other)} is the same name where case does not count`;
    }
    return undefined;
  }
}
