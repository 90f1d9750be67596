import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { decodePath, encodePath } from '../bytes-path.ts';
import type { Digest } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import type { BlobStore } from './blobs.ts';
import type { Change, ChangeSet, Node, Tree } from './change-set.ts';
import { askGit } from './host-git.ts';

/**
 * A change set as a patch that `git apply` takes: binary contents, modes, links, renames, any name. Promises:
 *  - the same change set gives the same bytes, wherever and whenever;
 *  - git sees contents in a scratch repository of its own, never a work tree, and no attribute or setting of any tree,
 *    user or machine has a say;
 *  - empty directories are in the change set but not in the patch: git cannot say them.
 */
export async function makePatch(base: Tree, changeSet: ChangeSet, blobs: BlobStore): Promise<Patch> {
  if (changeSet.changes.size === 0) return { bytes: Buffer.alloc(0), files: [] };
  const scratch = await mkdtemp(path.join(tmpdir(), 'glovebox-patch-'));
  try {
    const repository = path.join(scratch, 'objects.git');
    const ask = async (args: readonly string[], input?: AsyncIterable<Uint8Array>): Promise<Buffer> => {
      const answer = await askGit(scratch, args, {
        env: { GIT_DIR: repository },
        ...(input === undefined ? {} : { input }),
      });
      if (answer.code !== 0) throw new RunnerError('internal', `patch: git ${args[0] ?? ''} failed: ${answer.stderr}`);
      return answer.stdout;
    };
    // As much of a repository as git asks for; `git init` would copy templates and settings into it.
    for (const directory of ['objects', 'refs']) await mkdir(path.join(repository, directory), { recursive: true });
    await writeFile(path.join(repository, 'HEAD'), 'ref: refs/heads/none\n');
    await ask(['fast-import', '--quiet', '--done'], importStream(base, changeSet, blobs));
    const form = [
      ...formOfDiff,
      linkBecomesDirectory(base, changeSet) ? '--no-renames' : '--find-renames=50%',
      ...sides,
    ];
    const [bytes, stat] = await Promise.all([
      ask(['diff-tree', ...formOfPatch, ...form]),
      ask(['diff-tree', '--numstat', '-z', ...form]),
    ]);
    return { bytes: quoteSpaces(bytes), files: parseNumstat(stat) };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
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

const sides = ['refs/glovebox/base', 'refs/glovebox/now', '--'];

// Each of these makes git print a patch, also when it was asked for numbers.
const formOfPatch: readonly string[] = ['--patch', '--binary', '--full-index', '--unified=3', '--inter-hunk-context=0'];

const formOfDiff: readonly string[] = [
  '-r',
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

/**
 * Two commits for `git fast-import`, with nothing in them but what changed: the side before and the side after. Contents
 * are streamed, each once.
 */
async function* importStream(
  base: Tree,
  changeSet: ChangeSet,
  blobs: BlobStore,
): AsyncGenerator<Uint8Array, void, undefined> {
  const before: [string, Node][] = [];
  const after: [string, Node][] = [];
  for (const [name, change] of changeSet.changes) {
    const old = base.get(name);
    if (old !== undefined) before.push([name, old]);
    if (change.kind !== 'deleted') after.push([name, change]);
  }
  const marks = new Map<Digest, number>();
  for (const [, node] of [...before, ...after]) {
    if (node.kind !== 'file' || marks.has(node.digest)) continue;
    marks.set(node.digest, marks.size + 1);
    yield Buffer.from(`blob\nmark :${marks.size}\ndata ${node.sizeBytes}\n`);
    yield* exactly(blobs, node.digest, node.sizeBytes);
    yield Buffer.from('\n');
  }
  for (const [ref, entries] of [
    ['refs/glovebox/base', before],
    ['refs/glovebox/now', after],
  ] as const) {
    yield Buffer.from(`commit ${ref}\ncommitter g <g> 0 +0000\ndata 0\n`);
    for (const [name, node] of entries) yield* entryOf(name, node, marks);
    yield Buffer.from('\n');
  }
  yield Buffer.from('done\n');
}

function* entryOf(
  name: string,
  node: Change,
  marks: ReadonlyMap<Digest, number>,
): Generator<Uint8Array, void, undefined> {
  if (node.kind === 'file') {
    yield Buffer.from(
      `M ${node.mode === 0o755 ? '100755' : '100644'} :${marks.get(node.digest) ?? 0} ${quote(name)}\n`,
    );
  } else if (node.kind === 'symlink') {
    const target = encodePath(node.target);
    yield Buffer.from(`M 120000 inline ${quote(name)}\ndata ${target.length}\n`);
    yield target;
    yield Buffer.from('\n');
  }
}

/** A blob of another size than announced would put its bytes where git expects commands. */
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
  if (left !== 0) throw new RunnerError('internal', `patch: ${digest} has not the ${sizeBytes} bytes it should have`);
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

/** As git quotes names: everything but plain ASCII in octal. */
function quote(name: string): string {
  let quoted = '"';
  for (const byte of encodePath(name)) {
    const plain = byte >= 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c;
    quoted += plain ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, '0')}`;
  }
  return `${quoted}"`;
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
