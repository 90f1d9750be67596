import { setImmediate } from 'node:timers/promises';

import type { Files } from '../../sandbox/spec.ts';
import type { BlobStore } from '../blobs.ts';
import { classifyChanges, type ClassifiedChange } from './classify.ts';
import { collectChanges, type Collected, type CollectOptions } from './collect.ts';
import type { Base } from '../base/import.ts';
import { makePatch, type Patch } from '../patch/patch.ts';
import type { Scope } from '../scope/scope.ts';

/** What a run proposes: its changes in the write scope, what each is, the patch, and what was refused on the way out. */
export interface Candidate extends Collected {
  readonly classified: readonly ClassifiedChange[];
  readonly patch: Patch;
}

/** Call it while nothing runs inside: what is taken must be one moment of the tree. */
export async function takeCandidate(
  sandbox: { files: Files },
  base: Base,
  scope: Scope,
  blobs: BlobStore,
  options: Pick<CollectOptions, 'snapshotRepository' | 'layered'> = {},
): Promise<Candidate> {
  const collected = await collectChanges(sandbox, base, scope, blobs, options);
  const { changeSet } = collected;
  const [patch, classified] = await Promise.all([
    makePatch(base.tree, changeSet, blobs),
    // In the next turn: then git is at work meanwhile.
    setImmediate().then(() => classifyChanges(base.tree, changeSet, blobs)),
  ]);
  return { ...collected, classified, patch };
}

/** `diff.json`: the changes as a list, what was refused, what stood outside the scope. */
export function candidateDocument(candidate: Candidate) {
  const lines = new Map(candidate.patch.files.map((file) => [file.path, file]));
  return {
    changes: candidate.classified.map((change) => ({
      ...change,
      added: lines.get(change.path)?.added ?? null,
      removed: lines.get(change.path)?.removed ?? null,
    })),
    violations: candidate.violations,
    findings: candidate.findings,
    scratch: candidate.scratch,
    ignored: candidate.ignored,
    complete: candidate.complete,
    patchBytes: candidate.patch.bytes.length,
  };
}
