import { decodePath, encodePath } from '../../bytes-path.ts';
import { digestOf, type Digest } from '../../digest.ts';
import { RunnerError } from '../../errors.ts';
import type { BlobStore } from '../blobs.ts';
import type { ChangeSet, Node, Tree } from '../change-set.ts';
import { GitObjects, type GitObject } from './git-pack.ts';
import { treeOf } from './git-tree.ts';
import { askGit } from '../base/host-git.ts';
import { inScratch } from './scratch.ts';

/**
 * A change set as a patch that `git apply` takes: binary contents, modes, links, renames, any name. Promises:
 *  - the same change set gives the same bytes, wherever and whenever;
 *  - git sees contents in a scratch repository of its own, never a work tree, and no attribute or setting of any tree,
 *    user or machine has a say;
 *  - empty directories are in the change set but not in the patch: git cannot say them.
 */
export async function makePatch(base: Tree, changeSet: ChangeSet, blobs: BlobStore): Promise<Patch> {
  const [before, after] = sidesOf(base, changeSet);
  if (before.size === 0 && after.size === 0) return { bytes: Buffer.alloc(0), files: [] };
  const renames = linkBecomesDirectory(base, changeSet) ? '--no-renames' : '--find-renames=50%';
  return await inScratch(bytesOf([before, after]), async (scratch) => {
    const objects = GitObjects.create(scratch);
    const trees = await addTrees(objects, [before, after], blobs);
    const answer = await askGit(scratch, ['diff-tree', ...formOfDiff, renames, ...trees, '--'], {
      env: objects.environment,
    });
    if (answer.code !== 0) throw new RunnerError('internal', `patch: git diff-tree failed: ${answer.stderr}`);
    if (answer.stdout.length === 0 && trees[0] !== trees[1])
      throw new RunnerError('internal', 'patch: git diff-tree said nothing of two trees that differ');
    return parseAnswer(answer.stdout);
  });
}

export interface Patch {
  readonly bytes: Buffer;
  /** One for each file of the patch, for display. */
  readonly files: readonly FileStat[];
}

export interface FileStat {
  readonly path: string;
  /** Where it was before, when it was renamed. */
  readonly from?: string;
  /** Lines; undefined for a binary file. */
  readonly added: number | undefined;
  readonly removed: number | undefined;
}

// One answer: how many lines of each file, then the patch. With `-z` names are plain among the numbers, and quoted in the patch.
const formOfDiff: readonly string[] = [
  '-r',
  '-z',
  '--numstat',
  '--patch',
  '--binary',
  '--full-index',
  '--unified=3',
  '--inter-hunk-context=0',
  // Comparing every deleted file with every added one is quadratic: past this many, only exact renames are found.
  '-l400',
  '--no-ext-diff',
  '--no-textconv',
  '--no-color',
  '--no-relative',
  '--diff-algorithm=myers',
  '--indent-heuristic',
  '--src-prefix=a/',
  '--dst-prefix=b/',
  '--ignore-submodules=none',
];

/** A rename says nothing of a link's mode, so `git apply` would not know that the link is gone when it fills the directory. */
function linkBecomesDirectory(base: Tree, changeSet: ChangeSet): boolean {
  for (const [name, change] of changeSet.changes) {
    if (change.kind === 'directory' && base.get(name)?.kind === 'symlink') return true;
  }
  return false;
}

/** Nothing but what changed: as it was, and as it is. git knows no empty directories. */
function sidesOf(base: Tree, changeSet: ChangeSet): readonly [Side, Side] {
  const [before, after] = [new Map<string, Leaf>(), new Map<string, Leaf>()];
  for (const [name, change] of changeSet.changes) {
    const old = base.get(name);
    if (old !== undefined && old.kind !== 'directory') before.set(name, old);
    if (change.kind === 'file' || change.kind === 'symlink') after.set(name, change);
  }
  return [before, after];
}

type Leaf = Exclude<Node, { readonly kind: 'directory' }>;
type Side = ReadonlyMap<string, Leaf>;

function bytesOf(sides: readonly Side[]): number {
  const leaves = sides.flatMap((side) => [...side.values()]);
  return leaves.reduce((sum, leaf) => sum + (leaf.kind === 'file' ? leaf.sizeBytes : leaf.target.length), 0);
}

/** Contents first, each once, then the trees that name them; returns the ids of the sides. */
async function addTrees(objects: GitObjects, sides: readonly Side[], blobs: BlobStore): Promise<readonly string[]> {
  const contents = new Map<string, () => Promise<GitObject> | GitObject>();
  for (const leaf of sides.flatMap((side) => [...side.values()])) {
    contents.set(nameOf(leaf), () => (leaf.kind === 'file' ? blobOf(leaf, blobs) : linkOf(leaf)));
  }
  const ids = await objects.add(
    contents.size,
    (async function* () {
      for (const content of contents.values()) yield await content();
    })(),
  );
  const idOf = new Map(Array.from(contents.keys(), (name, at) => [name, ids[at] ?? '']));
  const trees = sides.map((side) => treeOf(side, (leaf) => idOf.get(nameOf(leaf)) ?? ''));
  const all = new Map(trees.flatMap((tree) => [...tree.objects]));
  await objects.add(all.size, all.values());
  return trees.map(({ id }) => id);
}

/** A link is the content that its target is. */
const nameOf = (leaf: Leaf): Digest => (leaf.kind === 'file' ? leaf.digest : digestOf(encodePath(leaf.target)));

function linkOf({ target }: Leaf & { kind: 'symlink' }): GitObject {
  const bytes = encodePath(target);
  return { type: 'blob', sizeBytes: bytes.length, bytes };
}

async function blobOf({ digest, sizeBytes }: Leaf & { kind: 'file' }, blobs: BlobStore): Promise<GitObject> {
  const bytes = sizeBytes <= wholeBytesMax ? await blobs.get(digest) : exactly(blobs, digest, sizeBytes);
  if (bytes instanceof Uint8Array && bytes.length !== sizeBytes) throw wrongSize(digest, sizeBytes);
  return { type: 'blob', sizeBytes, bytes };
}

const wholeBytesMax = 1024 * 1024;

/** A blob of another size than announced would be another object than git is told. */
async function* exactly(
  blobs: BlobStore,
  digest: Digest,
  sizeBytes: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  let left = sizeBytes;
  for await (const chunk of blobs.stream(digest)) {
    left -= chunk.length;
    if (left < 0) break;
    yield chunk;
  }
  if (left !== 0) throw wrongSize(digest, sizeBytes);
}

function wrongSize(digest: Digest, sizeBytes: number): RunnerError {
  return new RunnerError('internal', `patch: ${digest} has not the ${sizeBytes} bytes it should have`);
}

/**
 * git leaves names with spaces unquoted in `diff --git a/X b/X`, and where nothing else names the file (an empty one) its
 * own `apply` cannot always tell where the first name ends. Quoted, it can. No other line of a patch begins like this one.
 */
function quoteSpaces(patch: Buffer): Buffer {
  const text = patch.toString('latin1');
  const quoted = text.replace(/(^|\n)diff --git a\/([^\n]*)/g, (line, start: string, rest: string) => {
    const name = rest.slice(0, (rest.length - 3) / 2);
    const plain = name.includes(' ') && rest === `${name} b/${name}`;
    return plain ? `${start}diff --git "a/${name}" "b/${name}"` : line;
  });
  return Buffer.from(quoted, 'latin1');
}

/** Numbers, an empty field, the patch. */
function parseAnswer(answer: Buffer): Patch {
  if (answer.length === 0) return { bytes: answer, files: [] };
  const begin = answer.indexOf('\0\0diff --git ', 0, 'latin1');
  if (begin < 0) throw new RunnerError('internal', 'patch: git diff-tree answered in an unknown form');
  return { bytes: quoteSpaces(answer.subarray(begin + 2)), files: parseNumstat(answer.subarray(0, begin + 1)) };
}

/** `added TAB removed TAB path NUL`, or `added TAB removed TAB NUL from NUL path NUL` for a rename. */
function parseNumstat(answer: Buffer): FileStat[] {
  const fields = answer.toString('latin1').split('\0');
  const files: FileStat[] = [];
  const nameAt = (at: number): string => decodePath(Buffer.from(fields[at] ?? '', 'latin1'));
  for (let at = 0; at < fields.length - 1;) {
    const match = /^(-|\d+)\t(-|\d+)\t([^]*)$/.exec(fields[at] ?? '');
    if (match === null) throw new RunnerError('internal', 'patch: git numstat answered in an unknown form');
    const lines = (text: string | undefined): number | undefined => (text === '-' ? undefined : Number(text));
    const counts = { added: lines(match[1]), removed: lines(match[2]) };
    if (match[3] === '') {
      files.push({ path: nameAt(at + 2), from: nameAt(at + 1), ...counts });
      at += 3;
    } else {
      files.push({ path: decodePath(Buffer.from(match[3] ?? '', 'latin1')), ...counts });
      at += 1;
    }
  }
  return files;
}
