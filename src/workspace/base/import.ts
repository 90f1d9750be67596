import { constants, type BigIntStats } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';

import type { Digest } from '../../digest.ts';
import { messageOf, RunnerError } from '../../errors.ts';
import type { UnpackItem } from '../../sandbox/spec.ts';
import type { BlobStore } from '../blobs.ts';
import type { Node, Tree } from '../change-set.ts';
import { sortedByBytes } from '../diff.ts';
import { defaultLimits, type WorkspaceLimits } from '../limits.ts';
import { digestOfTree } from '../manifest.ts';
import type { Checkout } from './git-listing.ts';
import { planOwnership, type Ownership } from './ownership.ts';
import type { Scope } from '../scope/scope.ts';
import { hostPath, liesAt } from './host-path.ts';
import type { SelectedFile, Selection } from './select.ts';
import { TreeIndex } from '../changes/tree-index.ts';

/**
 * Brings the selected files into a sandbox, reading each one once: its content goes to the blob store, its digest into
 * the base, its bytes to whoever drains `items`. A file that changes while it is read is read again; one that keeps
 * changing, or cannot be read, is `import_refused`.
 */
export function importWorkspace(
  selection: Selection,
  scope: Scope,
  blobs: BlobStore,
  options: ImportOptions = {},
): WorkspaceImport {
  const ownership = planOwnership(selection, scope);
  const tree = new Map<string, Node>();
  let drained = false;
  return {
    root: ownership.of(''),
    files: selection.files.length,
    sizeBytes: selection.files.reduce((sum, file) => sum + (file.kind === 'file' ? file.sizeBytes : 0), 0),
    items: (async function* () {
      yield* readAll(selection, ownership, blobs, tree, options);
      drained = true;
    })(),
    base() {
      if (!drained) throw new RunnerError('internal', 'import: the base is known once all items have been read');
      const sorted = sortedByBytes(tree);
      const [digest, index] = [digestOfTree(sorted), new TreeIndex(sorted)];
      return { tree: sorted, digest, scopeDigest: scope.digest, kind: selection.kind, index };
    },
  };
}

export interface ImportOptions {
  readonly limits?: Partial<WorkspaceLimits>;
  readonly onProgress?: (progress: ImportProgress) => void;
  readonly signal?: AbortSignal;
}

export interface ImportProgress {
  readonly files: number;
  readonly filesTotal: number;
  readonly bytes: number;
}

export interface WorkspaceImport {
  /** How the workspace's own directory must be made: `unpack` cannot say it. */
  readonly root: Ownership;
  readonly files: number;
  /** As the selection saw it. */
  readonly sizeBytes: number;
  /** For `files.unpack('.', items, { owners: true })`. Can be read once. */
  readonly items: AsyncIterable<UnpackItem>;
  /** After `items` were read to their end. */
  base(): Base;
}

/** What a sandbox started from: the one thing that changes are measured against. */
export interface Base extends Checkout {
  readonly tree: Tree;
  readonly digest: Digest;
  readonly scopeDigest: Digest;
  /** Of a git work tree, new files that its ignore files name are not exported. */
  readonly kind: Selection['kind'];
  /** Of the tree; made anew each time where there is none. */
  readonly index?: TreeIndex | undefined;
}

/** The same base as it came from there: many commits, and many repositories, have one. */
export function checkedOut(base: Base, checkout: Checkout): Base {
  if (checkout.commit === undefined) return base;
  const { digest, scopeDigest, kind } = base;
  return {
    digest,
    scopeDigest,
    kind,
    ...checkout,
    // Whoever does not ask for them does not have them read.
    get tree() {
      return base.tree;
    },
    get index() {
      return base.index;
    },
  };
}

interface ReadFile {
  readonly node: Node;
  readonly content?: Uint8Array | AsyncIterable<Uint8Array>;
}

const readAhead = 8;
const attempts = 3;
/** Above this a file is streamed through the blob store instead of being held in memory. */
const wholeBytesMax = 1024 * 1024;

async function* readAll(
  selection: Selection,
  ownership: ReturnType<typeof planOwnership>,
  blobs: BlobStore,
  tree: Map<string, Node>,
  options: ImportOptions,
): AsyncGenerator<UnpackItem, void, undefined> {
  const limits = { ...defaultLimits, ...options.limits };
  for (const directory of selection.directories) {
    tree.set(directory, { kind: 'directory' });
    yield { path: directory, type: 'directory', ...ownership.of(directory) };
  }
  let bytes = 0;
  let files = 0;
  const read = (file: SelectedFile): Promise<ReadFile> => readFile(selection.root, file, blobs, limits);
  for await (const [file, { node, content }] of inOrder(selection.files, read)) {
    options.signal?.throwIfAborted();
    tree.set(file.path, node);
    if (node.kind === 'file') bytes += node.sizeBytes;
    if (bytes > limits.bytesMax) throw refused(file.path, `brings the total above ${limits.bytesMax} bytes`);
    files++;
    options.onProgress?.({ files, filesTotal: selection.files.length, bytes });
    const { owner } = ownership.of(file.path);
    if (node.kind === 'symlink') yield { path: file.path, type: 'symlink', mode: 0o777, owner, target: node.target };
    if (node.kind !== 'file' || content === undefined) continue;
    yield { path: file.path, type: 'file', mode: node.mode, owner, content, sizeBytes: node.sizeBytes };
  }
}

/** Works on a few at once, hands them on in order, and leaves no rejection unheard. */
async function* inOrder<T, R>(
  inputs: readonly T[],
  work: (input: T) => Promise<R>,
): AsyncGenerator<readonly [T, R], void, undefined> {
  const running: { input: T; result: Promise<R> }[] = [];
  const rest = inputs.values();
  try {
    for (;;) {
      while (running.length < readAhead) {
        const next = rest.next();
        if (next.done === true) break;
        running.push({ input: next.value, result: work(next.value) });
      }
      const first = running.shift();
      if (first === undefined) return;
      yield [first.input, await first.result];
    }
  } finally {
    await Promise.allSettled(running.map(({ result }) => result));
  }
}

async function readFile(
  root: string,
  file: SelectedFile,
  blobs: BlobStore,
  limits: WorkspaceLimits,
): Promise<ReadFile> {
  if (file.kind === 'symlink') return { node: { kind: 'symlink', target: file.target } };
  let handle: FileHandle;
  try {
    // Neither a link nor a FIFO that took the file's place meanwhile is followed or waited for.
    handle = await open(hostPath(root, file.path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    throw refused(file.path, `cannot be read (${messageOf(cause)})`, cause);
  }
  try {
    if (!liesAt(handle.fd, root, file.path))
      throw refused(file.path, 'is not where it was: a directory above it was replaced');
    for (let attempt = 0; attempt < attempts; attempt++) {
      const before = await handle.stat({ bigint: true });
      if (!before.isFile()) throw refused(file.path, 'is no longer a file');
      if (before.size > BigInt(limits.fileBytesMax))
        throw refused(file.path, `has more than ${limits.fileBytesMax} bytes`);
      const read = await readOnce(handle, before, blobs, limits);
      if (unchanged(before, await handle.stat({ bigint: true }), read.node)) return read;
    }
  } finally {
    await handle.close();
  }
  throw refused(file.path, 'keeps changing while it is read; stop what writes it');
}

async function readOnce(
  handle: FileHandle,
  stats: BigIntStats,
  blobs: BlobStore,
  limits: WorkspaceLimits,
): Promise<{ node: Node & { kind: 'file' }; content: Uint8Array | AsyncIterable<Uint8Array> }> {
  const mode = (stats.mode & 0o100n) === 0n ? 0o644 : 0o755;
  if (stats.size > BigInt(wholeBytesMax)) {
    const { digest, sizeBytes } = await blobs.putStream(piecesOf(handle), limits.fileBytesMax);
    return { node: { kind: 'file', mode, digest, sizeBytes }, content: blobs.stream(digest) };
  }
  // One byte more than expected, so that a file that has grown is seen.
  const buffer = Buffer.allocUnsafe(Number(stats.size) + 1);
  let length = 0;
  for (let bytesRead = -1; bytesRead !== 0 && length < buffer.length; length += bytesRead) {
    ({ bytesRead } = await handle.read(buffer, length, buffer.length - length, length));
  }
  const content = buffer.subarray(0, length);
  return { node: { kind: 'file', mode, digest: await blobs.put(content), sizeBytes: length }, content };
}

async function* piecesOf(handle: FileHandle): AsyncGenerator<Uint8Array, void, undefined> {
  for (let offset = 0; ;) {
    const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(256 * 1024), 0, 256 * 1024, offset);
    if (bytesRead === 0) return;
    offset += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

function unchanged(before: BigIntStats, after: BigIntStats, node: Node & { kind: 'file' }): boolean {
  return (
    before.size === after.size &&
    before.mtimeNs === after.mtimeNs &&
    before.ctimeNs === after.ctimeNs &&
    after.size === BigInt(node.sizeBytes)
  );
}

function refused(path: string, why: string, cause?: unknown): RunnerError {
  return new RunnerError('import_refused', `import: ${JSON.stringify(path)} ${why}`, { cause });
}
