import { createReadStream, readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';

import type { Digest } from '../../digest.ts';
import { RunnerError } from '../../errors.ts';
import type { Files } from '../../sandbox/spec.ts';
import type { BlobStore } from '../blobs.ts';
import type { Change, ChangeSet, Node } from '../change-set.ts';
import { Contents } from './contents.ts';
import { ancestorsOf, diffTrees, sizeOf, sortedByBytes } from '../diff.ts';
import { keepRestorableChanges, keepSafeChanges } from './export-check.ts';
import { Findings, keptPerKind, type Finding, type Violation } from './findings.ts';
import { IgnoreRules } from '../base/ignored.ts';
import type { Base } from '../base/import.ts';
import { scanLayer, type ContentUse, type Layering } from '../layer/layer-scan.ts';
import { defaultLimits, type WorkspaceLimits } from '../limits.ts';
import { isGitName } from './names.ts';
import { scanWorkspace, unknownDigest, type Scan, type ScannedEntry } from './scan.ts';
import type { PathClass, Scope } from '../scope/scope.ts';
import type { BaseFiles } from '../base/base-files.ts';
import { hostPath } from '../base/host-path.ts';
import { TreeIndex } from './tree-index.ts';

/**
 * Takes the changes out of a sandbox whose tools are at rest. Everything it says is hostile. Promises:
 *  - every exported path is in the write scope, and the set is safe to lay over the base (`export-check.ts`);
 *  - every exported content was read and hashed here, and is in the blob store; the sandbox's own digests only say
 *    where to look;
 *  - what was not exported is named: as a finding, a violation, or a count of scratch and ignored files; a file of the base
 *    that was changed and stays inside because `scratch` names it is a finding, unless all of the workspace is scratch;
 *  - what could not be seen counts as unchanged, and then `complete` is false. Work and memory are bounded by `limits`;
 *  - of an overlay that has lost something that was written there are no changes to be had: `data_dir_unusable`.
 */
export async function collectChanges(
  sandbox: { readonly files: Files },
  base: Base,
  scope: Scope,
  blobs: BlobStore,
  options: CollectOptions = {},
): Promise<Collected> {
  const limits = { ...defaultLimits, ...options.limits };
  const findings = new Findings();
  const violations: Violation[] = [];
  const index = base.index ?? new TreeIndex(base.tree);
  const ignored = base.kind === 'git' ? await index.ignoreRules(blobs) : IgnoreRules.none;
  const contents = new Contents(sandbox.files, base, blobs, limits);
  const everything = options.everything === true;
  const classOf = (path: string, kind: 'file' | 'directory'): PathClass =>
    scope.isScratch(path) ? 'scratch' : scope.classOf(path, kind);
  const isUnasked = (path: string, kind: 'file' | 'directory'): boolean =>
    !everything && !base.tree.has(path) && ignored.covers(path, kind);
  const toldOf = !scope.isScratchBelow(''); // where all is scratch, nobody waits for a change of it
  const use = {
    of: (path: string): 'keep' | 'compare' | 'nothing' => {
      const pathClass = classOf(path, 'file');
      if (isUnasked(path, 'file')) return 'nothing';
      if (pathClass === 'write' || (pathClass === 'scratch' && everything)) return 'keep';
      return (pathClass !== 'scratch' || toldOf) && base.tree.has(path) ? 'compare' : 'nothing';
    },
    keep: (path: string, bytes: Uint8Array): Promise<Digest> => contents.take(path, bytes),
  };
  // In the next turn: then the sandbox is at work while this machine starts a program.
  const written = setImmediate().then(() => options.layered?.checkWritten());
  written.catch(() => undefined); // waited for in the end
  const scan = await look(sandbox.files, base, scope, limits, findings, options.layered, use);
  const tallies = { scratch: scan.scratch, ignored: { files: 0, bytes: 0 } };

  const inScope = new Map<string, Change>();
  for (const [path, change] of scan.changes) {
    const kind = kindOf(change, base.tree.get(path));
    const pathClass = classOf(path, kind);
    if (path === '.git' && options.snapshotRepository === true) continue;
    if (pathClass === 'scratch' && !everything) {
      if (toldOf && kind === 'file' && base.tree.has(path))
        findings.add({ kind: 'base_in_scratch', path, effect: 'noted' });
      continue;
    }
    // What no snapshot can hold, and the policy does not want to be there.
    if (pathClass === 'scratch' && scope.denies(path) && path.split('/').some(isGitName)) continue;
    const before = base.tree.get(path);
    if (isUnasked(path, kind)) count(tallies.ignored, scan.entries.get(path));
    else if (pathClass === 'write' || pathClass === 'scratch') inScope.set(path, change);
    else violations.push({ path, class: pathClass, kind: statusOf(change, before) });
  }
  const proven = await contents.prove(inScope, findings, options.signal);
  noteModes(scan.entries, scope, findings);
  for (const [path, change] of proven) {
    const links = scan.entries.get(path)?.nlink ?? 1;
    if (change.kind !== 'file' || links < 2) continue;
    findings.add({
      kind: 'hard_link',
      path,
      effect: 'noted',
      detail: `one of ${links} names, exported as a file of its own`,
    });
  }
  if (options.layered !== undefined) await keepBefore(proven, base, options.layered.lower, blobs);
  // What was read is what was written, unless some of it was lost before.
  await written;
  const safe = (everything ? keepRestorableChanges : keepSafeChanges)(index, proven, findings);
  return {
    changeSet: { changes: sortedByBytes(safe) },
    findings: findings.kept,
    findingsLeftOut: findings.leftOut,
    violations: violations.slice(0, violationsKept),
    violationsLeftOut: Math.max(0, violations.length - violationsKept),
    ...tallies,
    complete: !findings.incomplete,
  };
}

export interface CollectOptions {
  readonly limits?: Partial<WorkspaceLimits>;
  /** `.git` at the top was put there by the runner: it is not looked at and not reported. */
  readonly snapshotRepository?: boolean;
  /** Scratch and ignored paths too: what a snapshot may hold, and an export never. */
  readonly everything?: boolean;
  /** The workspace is an overlay over the base: then only what was written is looked at. */
  readonly layered?: Layered;
  readonly signal?: AbortSignal;
}

export interface Layered extends Layering {
  /** What lies in scratch paths of the base. */
  readonly scratch: Tally;
  /** Throws when something that was written is lost. */
  checkWritten(): Promise<void>;
}

export interface Collected {
  readonly changeSet: ChangeSet;
  readonly findings: readonly Finding[];
  readonly findingsLeftOut: number;
  /** Changed, but not exported. */
  readonly violations: readonly Violation[];
  readonly violationsLeftOut: number;
  /** What lies in scratch paths now. */
  readonly scratch: Tally;
  /** New files that the base's `.gitignore` files name: not exported. */
  readonly ignored: Tally;
  /** False when a limit or an unreadable entry kept something from being seen. */
  readonly complete: boolean;
}

export interface Tally {
  readonly files: number;
  readonly bytes: number;
}

interface Count {
  files: number;
  bytes: number;
}

const violationsKept = 5 * keptPerKind;
const wholeBytesMax = 1024 * 1024;

interface Looked {
  readonly changes: ReadonlyMap<string, Change>;
  readonly entries: ReadonlyMap<string, ScannedEntry>;
  readonly scratch: Count;
}

/** Everything, or only what an overlay's upper directory points at: the result is the same. */
async function look(
  files: Files,
  base: Base,
  scope: Scope,
  limits: WorkspaceLimits,
  findings: Findings,
  layered: Layered | undefined,
  use: ContentUse,
): Promise<Looked> {
  if (layered === undefined) {
    const scan = await scanWorkspace(files, limits, findings);
    const scratch = { files: 0, bytes: 0 };
    for (const [path, entry] of scan.entries) if (scope.isScratch(path)) count(scratch, entry);
    for (const [path, node] of notSeen(base, scan)) {
      if (node.kind === 'directory' || !scope.isScratch(path)) continue;
      scratch.files++;
      scratch.bytes += sizeOf(node);
    }
    return { changes: claimedChanges(base, scan, scope).changes, entries: scan.entries, scratch };
  }
  const { changes, entries } = await scanLayer(files, base.tree, layered, limits, findings, use);
  const scratch = { ...layered.scratch };
  const told = [...changes].filter(([path, change]) => !isUntold(change, base.tree.get(path), path, scope));
  for (const [path, change] of changes) {
    if (!scope.isScratch(path)) continue;
    const before = base.tree.get(path);
    if (before !== undefined && before.kind !== 'directory') {
      scratch.files--;
      scratch.bytes -= sizeOf(before);
    }
    if (change.kind !== 'deleted') count(scratch, entries.get(path));
  }
  return { changes: sortedByBytes(told), entries, scratch };
}

/** The contents that a patch and a rollback start from; an overlay's base keeps them as files. */
async function keepBefore(
  changes: ReadonlyMap<string, Change>,
  base: Base,
  lower: BaseFiles,
  blobs: BlobStore,
): Promise<void> {
  for (const path of changes.keys()) {
    const before = base.tree.get(path);
    if (before?.kind !== 'file' || (await blobs.has(before.digest))) continue;
    const file = hostPath(lower.directoryOf(path), path);
    const digest =
      before.sizeBytes <= wholeBytesMax
        ? await blobs.put(readFileSync(file))
        : (await blobs.putStream(createReadStream(file), before.sizeBytes)).digest;
    if (digest === before.digest) continue;
    const message = `collect: ${JSON.stringify(path)} of the base was changed on disk; remove the base and import again`;
    throw new RunnerError('data_dir_unusable', message);
  }
}

function count(tally: Count, entry: ScannedEntry | undefined): void {
  if (entry === undefined || entry.node.kind === 'directory') return;
  tally.files++;
  tally.bytes += entry.sizeBytes;
}

/** What differs if the sandbox tells the truth; what was not seen is taken from the base. */
function claimedChanges(base: Base, scan: Scan, scope: Scope): ChangeSet {
  const now = new Map<string, Node>();
  for (const [path, { node }] of scan.entries) {
    const before = base.tree.get(path);
    now.set(path, before !== undefined && isUntold(node, before, path, scope) ? before : node);
  }
  for (const [path, node] of notSeen(base, scan)) now.set(path, node);
  return diffTrees(base.tree, now);
}

/** Of the base, and nobody knows whether it is still there: it counts as unchanged. */
function* notSeen(base: Base, scan: Scan): Generator<readonly [string, Node], void, undefined> {
  if (scan.whole && scan.unseen.size === 0) return;
  for (const [path, node] of base.tree) {
    if (scan.entries.has(path)) continue;
    if (!scan.whole || [path, ...ancestorsOf(path)].some((at) => scan.unseen.has(at))) yield [path, node];
  }
}

/** Not hashed, and never fetched: out of the write scope only a new size or mode tells. */
function isUntold(now: Change, before: Node | undefined, path: string, scope: Scope): boolean {
  if (now.kind !== 'file' || now.digest !== unknownDigest || before?.kind !== 'file') return false;
  return before.sizeBytes === now.sizeBytes && before.mode === now.mode && scope.classOf(path) !== 'write';
}

function kindOf(change: Change, before: Node | undefined): 'file' | 'directory' {
  const node = change.kind === 'deleted' ? before : change;
  return node?.kind === 'directory' ? 'directory' : 'file';
}

function statusOf(change: Change, before: Node | undefined): Violation['kind'] {
  return change.kind === 'deleted' ? 'deleted' : before === undefined ? 'added' : 'modified';
}

/** Bits that git does not know are dropped; the dangerous ones are told. */
function noteModes(entries: Looked['entries'], scope: Scope, findings: Findings): void {
  for (const [path, { node, mode }] of entries) {
    const dangerous = node.kind === 'file' ? mode & 0o7002 : node.kind === 'directory' ? mode & 0o6000 : 0;
    if (dangerous === 0 || scope.isScratch(path)) continue;
    findings.add({ kind: 'mode_normalised', path, effect: 'noted', detail: `mode ${mode.toString(8)}` });
  }
}
