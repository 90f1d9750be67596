import { bindingOf, type ApprovalOutcome } from '../approvals/approval.ts';
import type { Approvals } from '../approvals/approvals.ts';
import { termsOf } from '../policy/decisions/approval-terms.ts';
import { firedBy, writeAskCategory, type Rules } from '../policy/decisions/decide.ts';
import type { Policy } from '../policy/policy.ts';
import type { RunGate } from './gate.ts';
import type { BlobStore } from '../workspace/blobs.ts';
import { candidateDocument, type Candidate } from '../workspace/changes/candidate.ts';
import type { Base } from '../workspace/base/import.ts';
import { digestOfChangeSet } from '../workspace/manifest.ts';
import { makePatch } from '../workspace/patch/patch.ts';
import { plural } from '../plural.ts';

/** A change that stays behind. */
export interface HeldChange {
  readonly path: string;
  readonly why: 'propose_only' | 'not_approved' | 'outside_scope' | 'over_budget' | 'risk';
  /** Approvals that it would need. */
  readonly approvals: readonly string[];
}

/** What leaves a run, and what does not although it stands in the workspace. */
export interface Exported extends Candidate {
  readonly held: readonly HeldChange[];
  /** Approvals that are due before what leaves is put to use: the policy asks for them at every export. */
  readonly due: readonly string[];
}

export interface ExportParts {
  readonly gate: RunGate;
  readonly base: Base;
  readonly blobs: BlobStore;
}

/**
 * Holds every change against all layers once more, path by path: this is where `write_ask`, `propose_only` and triggers on
 * paths and on what a diff looks like are decided. With `approvals` people are asked, one category after the other; without,
 * and wherever nobody approves, the changes stay behind.
 */
export async function holdBack(
  candidate: Candidate,
  { gate, base, blobs }: ExportParts,
  ask?: { readonly approvals: Approvals; readonly run: string; readonly policy: `sha256:${string}` },
): Promise<Exported> {
  const tooHigh = await gate.raise(riskOf(gate.rules, candidate), 'the diff');
  const { rules } = gate;
  const judged = candidate.classified.map((change) => judge(rules, change));
  const wanted = [...new Set(judged.flatMap(({ approvals }) => approvals))];
  const approved = new Set<string>();
  for (const category of wanted) {
    if (ask === undefined) break;
    const paths = judged.filter(({ approvals }) => approvals.includes(category)).map(({ path }) => path);
    if ((await askFor(category, paths, candidate, rules.policy, base, ask)).kind === 'approved') approved.add(category);
  }
  const over = overBudget(candidate, rules.policy);
  const held = judged.flatMap(({ path, why, approvals }): HeldChange[] => {
    // It should have been made under another runtime than it was.
    if (tooHigh !== undefined) return [{ path, why: 'risk', approvals: [] }];
    if (over) return [{ path, why: 'over_budget', approvals: [] }];
    if (why !== undefined) return [{ path, why, approvals }];
    return approvals.every((category) => approved.has(category)) ? [] : [{ path, why: 'not_approved', approvals }];
  });
  const due = rules.policy.approvals.everyExport;
  if (held.length === 0) return { ...candidate, held, due };
  const gone = new Set(held.map(({ path }) => path));
  const changes = new Map([...candidate.changeSet.changes].filter(([path]) => !gone.has(path)));
  const changeSet = { ...candidate.changeSet, changes };
  const classified = candidate.classified.filter(({ path }) => !gone.has(path));
  return { ...candidate, changeSet, classified, patch: await makePatch(base.tree, changeSet, blobs), held, due };
}

/** `diff.json`. */
export function exportDocument(exported: Exported, policy: string) {
  return { policy, ...candidateDocument(exported), held: exported.held, due: exported.due };
}

function riskOf(rules: Rules, { classified }: Candidate) {
  const detectors = [...new Set(classified.flatMap(({ categories }) => categories))];
  return firedBy(rules, { writes: classified.map(({ path }) => path), detectors }).risk;
}

function judge(
  rules: Rules,
  { path, kind, categories }: Candidate['classified'][number],
): { path: string; why: HeldChange['why'] | undefined; approvals: readonly string[] } {
  const allowed = rules.paths.classOf(path, kind === 'directory' ? 'directory' : 'file');
  const fired = firedBy(rules, { writes: [path], detectors: categories }).approvals.map(({ category }) => category);
  switch (allowed) {
    case 'write':
      return { path, why: undefined, approvals: fired };
    case 'write_ask':
      return { path, why: undefined, approvals: fired.length === 0 ? [writeAskCategory] : fired };
    case 'propose_only':
      return { path, why: 'propose_only', approvals: fired };
    case 'scratch':
    case 'read':
    case 'absent':
      return { path, why: 'outside_scope', approvals: [] };
  }
}

async function askFor(
  category: string,
  paths: readonly string[],
  { changeSet, patch }: Candidate,
  policy: Policy,
  base: Base,
  ask: { readonly approvals: Approvals; readonly run: string; readonly policy: `sha256:${string}` },
): Promise<ApprovalOutcome> {
  const terms = termsOf(policy, category);
  if (terms.effect === 'deny') return { kind: 'denied', by: [], reason: 'never granted while a run is open' };
  const subject = { changes: digestOfChangeSet(changeSet), category, paths };
  const lines = paths.slice(0, 50).map((path) => {
    const file = patch.files.find((one) => one.path === path);
    return `${path}${file?.added === undefined ? '' : ` +${file.added} -${file.removed ?? 0}`}`;
  });
  const more = paths.length > 50 ? [`... and ${paths.length - 50} more`] : [];
  return ask.approvals.ask({
    category,
    at: 'export',
    subject: [...lines, ...more].join('\n'),
    rule: `approvals.${category}`,
    reach: `${plural(paths.length, 'changed path leaves', 'changed paths leave')} the sandbox with the diff`,
    digest: bindingOf(subject, { policy: ask.policy, base: base.digest, run: ask.run }),
    terms,
  });
}

function overBudget({ patch, changeSet }: Candidate, { budget }: Policy): boolean {
  const lines = patch.files.reduce((sum, { added = 0, removed = 0 }) => sum + added + removed, 0);
  const binary = patch.files
    .filter(({ added }) => added === undefined)
    .reduce<number>((sum, { path }) => {
      const change = changeSet.changes.get(path);
      return sum + (change?.kind === 'file' ? change.sizeBytes : 0);
    }, 0);
  const { diffFiles, diffLines, diffBinaryBytes } = budget;
  return (
    (diffFiles > 0 && patch.files.length > diffFiles) ||
    (diffLines > 0 && lines > diffLines) ||
    (diffBinaryBytes > 0 && binary > diffBinaryBytes)
  );
}
