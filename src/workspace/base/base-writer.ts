import {
  closeSync,
  fchmodSync,
  fchownSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { setImmediate } from 'node:timers/promises';

import { encodePath } from '../../bytes-path.ts';
import { RunnerError } from '../../errors.ts';
import { toolGid, toolUid } from '../../sandbox/environment.ts';
import type { Node, Tree } from '../change-set.ts';
import { sameNode, sortedByBytes } from '../diff.ts';
import { cloneTree, prune, type WholeBase } from './clone.ts';
import type { ImportOptions } from './import.ts';
import { defaultLimits } from '../limits.ts';
import { own, planOwnership, type Ownership } from './ownership.ts';
import type { Scope } from '../scope/scope.ts';
import { hostName } from './host-path.ts';
import type { SelectedFile, Selection } from './select.ts';
import { readingBuffer, readSteadily, type SteadyRead } from './steady-read.ts';

/**
 * Writes the selected files as a directory tree whose owners and modes are those inside the sandbox. Each file is opened
 * once, never through a link, and read again when it changes meanwhile. What is known from an earlier base is not read:
 * it becomes another name of the same file, which is safe because nobody ever writes to a base.
 */
export async function writeBase(
  selection: Selection,
  scope: Scope,
  into: string,
  earlier: EarlierBase | undefined,
  options: ImportOptions,
): Promise<WrittenBase> {
  const found = selection.files.map((file) => earlier?.find(file));
  const whole = earlier?.whole !== undefined && isMostOf(earlier.whole, found) ? earlier.whole : undefined;
  const cloning = whole === undefined ? false : cloneTree(whole, into, options.signal);
  const ownership = planOwnership(selection, scope);
  const cloned = await cloning;
  makeDirectories(selection, ownership, into, cloned ? whole : undefined, found);

  const limits = { ...defaultLimits, ...options.limits };
  const tree = new Map<string, Node>(selection.directories.map((path) => [path, { kind: 'directory' } as const]));
  const identities = new Map<string, string>();
  const buffer = readingBuffer();
  let bytes = 0;
  for (const [index, file] of selection.files.entries()) {
    if (index % filesAtOnce === 0) {
      await setImmediate(); // the work is synchronous, for speed: others have their turn in between
      options.signal?.throwIfAborted();
      options.onProgress?.({ files: index + 1, filesTotal: selection.files.length, bytes });
    }
    const { owner } = ownership.of(file.path);
    if (file.kind === 'symlink') {
      const target = hostName(into, file.path);
      symlinkSync(encodePath(file.target), target);
      if (owner === 'tool') lchownSync(target, toolUid, toolGid);
      tree.set(file.path, { kind: 'symlink', target: file.target });
      continue;
    }
    const known = found[index];
    const { node, identity } =
      (cloned && known?.identity !== undefined ? { node: known.node, identity: known.identity } : undefined) ??
      (known === undefined
        ? undefined
        : linked(selection.root, file, known, hostName(into, file.path), buffer, limits.fileBytesMax)) ??
      copied(selection.root, file, hostName(into, file.path), owner, buffer, limits.fileBytesMax);
    if (identity !== undefined) identities.set(file.path, identity);
    tree.set(file.path, node);
    bytes += node.sizeBytes;
    if (bytes > limits.bytesMax) throw refused(file.path, `brings the total above ${limits.bytesMax} bytes`);
  }
  options.onProgress?.({ files: selection.files.length, filesTotal: selection.files.length, bytes });
  return { tree: sortedByBytes(tree), root: ownership.of(''), identities };
}

export interface WrittenBase {
  readonly tree: Tree;
  /** How the workspace itself must be made. */
  readonly root: Ownership;
  /** Of the files that were settled when they were read. */
  readonly identities: ReadonlyMap<string, string>;
}

/** A base of the same scope, so that owners and modes agree. */
export interface EarlierBase {
  find(file: SelectedFile): KnownFile | undefined;
  /** Holds all that is found with an identity. Nobody removes it meanwhile. */
  readonly whole?: WholeBase;
}

export interface KnownFile {
  /** Of that base: there it lies at the same path. */
  readonly directory: string;
  readonly node: Node & { readonly kind: 'file' };
  /** What was seen of the host's file, where that says that it is the same. Absent: it is read, and compared. */
  readonly identity?: string;
}

const filesAtOnce = 64;

/** To remove more than a quarter of what was copied costs more than to link the rest. */
function isMostOf({ tree }: WholeBase, found: readonly (KnownFile | undefined)[]): boolean {
  return found.filter((known) => known?.identity !== undefined).length > tree.size * 0.75;
}

/** The directories, and in a copy of another base besides them only the files that stay as they are. */
function makeDirectories(
  { files, directories }: Selection,
  ownership: ReturnType<typeof planOwnership>,
  into: string,
  clone: WholeBase | undefined,
  found: readonly (KnownFile | undefined)[],
): void {
  if (clone === undefined) mkdirSync(into, { mode: 0o755 });
  else {
    const wanted = new Set(directories);
    const kept = new Set(files.flatMap(({ path }, at) => (found[at]?.identity === undefined ? [] : [path])));
    prune(into, clone.tree, (path, kind) => (kind === 'directory' ? wanted : kept).has(path));
  }
  for (const directory of directories) {
    const at = hostName(into, directory);
    if (clone?.tree.get(directory)?.kind !== 'directory') mkdirSync(at);
    own(at, ownership.of(directory));
  }
}

/** Undefined when it is another content after all, or cannot have one more name. */
function linked(
  root: string,
  file: SelectedFile,
  { directory, node, identity }: KnownFile,
  target: Buffer | string,
  buffer: Buffer,
  fileBytesMax: number,
): SteadyRead | undefined {
  const read =
    identity === undefined
      ? readSteadily(root, file.path, buffer, fileBytesMax, () => () => undefined)
      : { node, identity };
  if (!sameNode(read.node, node)) return undefined;
  try {
    linkSync(hostName(directory, file.path), target);
    return read;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EMLINK' || code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Writes what is read as a file that belongs to whom it is to belong to. */
export function copied(
  root: string,
  file: SelectedFile,
  target: Buffer | string,
  owner: Ownership['owner'],
  buffer: Buffer,
  fileBytesMax: number,
): SteadyRead {
  let copy: number | undefined;
  const end = (): void => {
    if (copy !== undefined) closeSync(copy);
    copy = undefined;
  };
  try {
    return readSteadily(root, file.path, buffer, fileBytesMax, (mode) => {
      if (copy !== undefined) unlinkSync(target);
      end();
      const opened = openSync(target, 'wx', mode);
      copy = opened;
      if (owner === 'tool') fchownSync(opened, toolUid, toolGid);
      fchmodSync(opened, mode);
      return (piece) => {
        for (let at = 0; at < piece.length;) at += writeSync(opened, piece, at, piece.length - at);
      };
    });
  } finally {
    end();
  }
}

function refused(path: string, why: string): RunnerError {
  return new RunnerError('import_refused', `import: ${JSON.stringify(path)} ${why}`);
}
