import type { Digest } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import type { Files, UnpackItem } from '../sandbox/spec.ts';
import type { BlobStore } from './blobs.ts';
import type { ChangeSet, Tree } from './change-set.ts';
import { collectChanges, type Layered } from './changes/collect.ts';
import { ancestorsOf, diffTrees, overlay, sortedByBytes } from './diff.ts';
import type { Base } from './base/import.ts';
import { digestOfChangeSet } from './manifest.ts';
import type { Scope } from './scope/scope.ts';

/** A state of a workspace: its base, and what is laid over it. Contents are in the blob store. */
export interface Snapshot {
  readonly base: Base;
  readonly changeSet: ChangeSet;
  /** Of the change set. */
  readonly digest: Digest;
  /** Whether scratch and ignored paths are in it. */
  readonly scratch: boolean;
}

export interface SnapshotOptions {
  /** Scratch and ignored paths too: installed dependencies, build output, caches. Default false: what an export has. */
  readonly scratch?: boolean;
  /** The workspace is an overlay over the base. */
  readonly layered?: Layered;
}

/**
 * Takes the state of a workspace whose tools are at rest. It is never a part of it: what cannot be taken (a device,
 * more than the limits; without scratch, what could not be exported) makes it `export_refused`, naming the first paths.
 */
export async function takeSnapshot(
  sandbox: { readonly files: Files },
  base: Base,
  scope: Scope,
  blobs: BlobStore,
  options: SnapshotOptions = {},
): Promise<Snapshot> {
  return take(sandbox, base, scope, blobs, options, (named) => {
    return `snapshot: the workspace holds what cannot be taken: ${named}; remove it, then take the snapshot again`;
  });
}

async function take(
  sandbox: { readonly files: Files },
  base: Base,
  scope: Scope,
  blobs: BlobStore,
  options: SnapshotOptions,
  refusal: (named: string) => string,
): Promise<Snapshot> {
  const scratch = options.scratch === true;
  const collected = await collectChanges(sandbox, base, scope, blobs, {
    everything: scratch,
    snapshotRepository: true,
    ...(options.layered === undefined ? {} : { layered: options.layered }),
  });
  const lacking = collected.findings.filter(({ effect }) => effect !== 'noted');
  if (lacking.length > 0 || !collected.complete) {
    const named = lacking.slice(0, 5).map(({ kind, path }) => `${JSON.stringify(path.slice(0, 200))} (${kind})`);
    throw new RunnerError('export_refused', refusal(named.join(', ')));
  }
  const { changeSet } = collected;
  return { base, changeSet, digest: digestOfChangeSet(changeSet), scratch };
}

/**
 * Puts a workspace of the same base back to a snapshot, and looks again: what it promises is the result. Without scratch
 * in the snapshot, scratch paths stay as they are. What could not be taken cannot be put back either: `export_refused`.
 * An agent can leave such things on purpose; a fork of the snapshot does not depend on what it left.
 */
export async function restoreSnapshot(
  sandbox: { readonly files: Files },
  snapshot: Snapshot,
  scope: Scope,
  blobs: BlobStore,
  options: Pick<SnapshotOptions, 'layered'> = {},
): Promise<void> {
  const { base, scratch } = snapshot;
  const look = (): Promise<Snapshot> =>
    take(sandbox, base, scope, blobs, { ...options, scratch }, (named) => {
      return `restore: the workspace holds what cannot be put back: ${named}; open a fork of the snapshot, or remove it and restore again`;
    });
  const now = overlay(base.tree, (await look()).changeSet.changes);
  const wayBack = diffTrees(now, overlay(base.tree, snapshot.changeSet.changes));
  await sandbox.files.unpack('.', toUnpackItems(now, wayBack, blobs), { owners: true });
  const { digest } = await look();
  if (digest === snapshot.digest) return;
  throw new RunnerError(
    'internal',
    `restore: the workspace is ${digest} instead of ${snapshot.digest}; open a fork of the snapshot`,
  );
}

export function contentBytesOf(changeSet: ChangeSet): number {
  let bytes = 0;
  for (const change of changeSet.changes.values()) if (change.kind === 'file') bytes += change.sizeBytes;
  return bytes;
}

/**
 * A change set as what `files.unpack` takes, for a sandbox that holds the base: a fork is open(base) and this. What is
 * gone is removed first, deepest first; what is new belongs to the tools, because only they can have made it.
 */
export async function* toUnpackItems(
  base: Tree,
  changeSet: ChangeSet,
  blobs: BlobStore,
): AsyncGenerator<UnpackItem, void, undefined> {
  const sorted = [...sortedByBytes(changeSet.changes)];
  for (const [path, change] of [...sorted].reverse()) {
    const before = base.get(path);
    const replaced = before !== undefined && change.kind !== 'deleted' && before.kind !== change.kind;
    if (change.kind !== 'deleted' && !replaced) continue;
    // What goes with its directory needs no word of its own.
    if (ancestorsOf(path).some((above) => changeSet.changes.get(above)?.kind === 'deleted')) continue;
    yield { path, type: 'remove', mode: 0 };
  }
  for (const [path, change] of sorted) {
    if (change.kind === 'directory') yield { path, type: 'directory', mode: 0o755, owner: 'tool' };
    if (change.kind === 'symlink') yield { path, type: 'symlink', mode: 0o777, owner: 'tool', target: change.target };
    if (change.kind !== 'file') continue;
    const { mode, sizeBytes, digest } = change;
    const content = sizeBytes <= wholeBytesMax ? await blobs.get(digest) : blobs.stream(digest);
    yield { path, type: 'file', mode, owner: 'tool', content, sizeBytes };
  }
}

const wholeBytesMax = 1024 * 1024;
