import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  readSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';

import { encodePath } from '../bytes-path.ts';
import { digestOf } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { toolGid, toolUid } from '../sandbox/environment.ts';
import type { Node, Tree } from './change-set.ts';
import { sortedByBytes } from './diff.ts';
import type { ImportOptions } from './import.ts';
import { defaultLimits } from './limits.ts';
import { planOwnership, type Ownership } from './ownership.ts';
import type { Scope } from './scope.ts';
import { fileSeen, isSettled } from './seen.ts';
import { hostPath, type SelectedFile, type Selection } from './select.ts';

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
  const limits = { ...defaultLimits, ...options.limits };
  const ownership = planOwnership(selection, scope);
  const tree = new Map<string, Node>();
  const identities = new Map<string, string>();
  mkdirSync(into, { mode: 0o755 });
  for (const directory of selection.directories) {
    const at = hostPath(into, directory);
    mkdirSync(at);
    own(at, ownership.of(directory));
    tree.set(directory, { kind: 'directory' });
  }
  const buffer = Buffer.allocUnsafe(pieceBytes);
  let bytes = 0;
  let files = 0;
  for (const file of selection.files) {
    if (files++ % filesAtOnce === 0) {
      await setImmediate(); // the work is synchronous, for speed: others have their turn in between
      options.signal?.throwIfAborted();
      options.onProgress?.({ files, filesTotal: selection.files.length, bytes });
    }
    const target = hostPath(into, file.path);
    const { owner } = ownership.of(file.path);
    if (file.kind === 'symlink') {
      symlinkSync(encodePath(file.target), target);
      if (owner === 'tool') lchownSync(target, toolUid, toolGid);
      tree.set(file.path, { kind: 'symlink', target: file.target });
      continue;
    }
    const known = earlier?.find(file);
    const node = known !== undefined && linked(known.path, target) ? known.node : undefined;
    const written = node ?? copyFile(selection.root, file, target, owner, buffer, limits.fileBytesMax, identities);
    if (node !== undefined && file.seen !== undefined) identities.set(file.path, file.seen.identity);
    tree.set(file.path, written);
    bytes += written.kind === 'file' ? written.sizeBytes : 0;
    if (bytes > limits.bytesMax) throw refused(file.path, `brings the total above ${limits.bytesMax} bytes`);
  }
  options.onProgress?.({ files, filesTotal: selection.files.length, bytes });
  return { tree: sortedByBytes(tree), root: ownership.of(''), identities };
}

export interface WrittenBase {
  readonly tree: Tree;
  /** How the workspace itself must be made. */
  readonly root: Ownership;
  /** Of the files that were settled when they were read. */
  readonly identities: ReadonlyMap<string, string>;
}

/** A base of the same directory and scope, so that owners and modes agree. */
export interface EarlierBase {
  find(file: SelectedFile): { readonly path: Buffer; readonly node: Node } | undefined;
}

const pieceBytes = 256 * 1024;
const filesAtOnce = 64;
const attempts = 3;

function own(target: Buffer, { owner, mode }: Ownership): void {
  if (owner === 'tool') chownSync(target, toolUid, toolGid);
  chmodSync(target, mode); // after the owner: the mask of this process does not count
}

function linked(from: Buffer, to: Buffer): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EMLINK' || code === 'ENOENT') return false;
    throw error;
  }
}

function copyFile(
  root: string,
  file: SelectedFile,
  target: Buffer,
  owner: Ownership['owner'],
  buffer: Buffer,
  fileBytesMax: number,
  identities: Map<string, string>,
): Node {
  let source: number;
  try {
    // Neither a link nor a FIFO that took the file's place meanwhile is followed or waited for.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    source = openSync(hostPath(root, file.path), flags);
  } catch (cause) {
    throw refused(file.path, `cannot be read (${messageOf(cause)})`, cause);
  }
  try {
    for (let attempt = 0; attempt < attempts; attempt++) {
      const readMs = Date.now();
      const before = fstatSync(source);
      if (!before.isFile()) throw refused(file.path, 'is no longer a file');
      if (before.size > fileBytesMax) throw refused(file.path, `has more than ${fileBytesMax} bytes`);
      const mode = (before.mode & 0o100) === 0 ? 0o644 : 0o755;
      const { digest, sizeBytes } = copyOnce(source, before.size, target, mode, owner, buffer);
      const seen = fileSeen(before);
      if (sizeBytes === before.size && fileSeen(fstatSync(source)).identity === seen.identity) {
        if (isSettled(seen, readMs)) identities.set(file.path, seen.identity);
        return { kind: 'file', mode, digest, sizeBytes };
      }
      unlinkSync(target);
    }
  } finally {
    closeSync(source);
  }
  throw refused(file.path, 'keeps changing while it is read; stop what writes it');
}

function copyOnce(
  source: number,
  size: number,
  target: Buffer,
  mode: 0o644 | 0o755,
  owner: Ownership['owner'],
  buffer: Buffer,
): { digest: `sha256:${string}`; sizeBytes: number } {
  const copy = openSync(target, 'wx', mode);
  try {
    if (owner === 'tool') fchownSync(copy, toolUid, toolGid);
    fchmodSync(copy, mode);
    if (size < buffer.length) {
      // One byte more than expected, so that a file that has grown is seen.
      const length = readWhole(source, buffer, size + 1);
      if (length > 0) writeSync(copy, buffer, 0, length);
      return { digest: digestOf(buffer.subarray(0, length)), sizeBytes: length };
    }
    const hash = createHash('sha256');
    let offset = 0;
    while (offset <= size) {
      const length = readSync(source, buffer, 0, buffer.length, offset);
      if (length === 0) break;
      hash.update(buffer.subarray(0, length));
      for (let at = 0; at < length;) at += writeSync(copy, buffer, at, length - at);
      offset += length;
    }
    return { digest: `sha256:${hash.digest('hex')}`, sizeBytes: offset };
  } finally {
    closeSync(copy);
  }
}

function readWhole(source: number, buffer: Buffer, bytesMax: number): number {
  let length = 0;
  while (length < bytesMax) {
    const read = readSync(source, buffer, length, bytesMax - length, length);
    if (read === 0) break;
    length += read;
  }
  return length;
}

function refused(path: string, why: string, cause?: unknown): RunnerError {
  return new RunnerError('import_refused', `import: ${JSON.stringify(path)} ${why}`, { cause });
}
