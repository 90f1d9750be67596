import { digestOfChangeSet, digestOfTree } from '../workspace/manifest.ts';
import { statusOf } from '../workspace/changes/classify.ts';
import { contextEntry } from '../context/context-entry.ts';
import { encodeContext } from '../context/context-snapshot.ts';
import { canonicalJson } from '../digest.ts';
import { fingerprintProblems } from './bundled-fingerprints.ts';
import { intentText } from './described.ts';
import type { BundleFiles, Facts } from './facts.ts';
import { contentName, contextName, memberNames, outputName } from './members.ts';
import { problem, type Problem } from './problem.ts';

/**
 * Where the files of a bundle do not tell one story. The journal is what the others are held against: its chain has base, change
 * set, policy, image, outputs and approvals by digest.
 */
export function contradictions(facts: Facts, files: BundleFiles): readonly Problem[] {
  const problems: Problem[] = [];
  const hold: Hold = (member, field, found, told, by = memberNames.journal) => {
    if (found === told) return;
    problems.push(problem(member, field, `it is ${text(found)}, and ${by} says ${text(told)}`));
  };
  const { story, policy, base, changeSet, intent, environment } = facts;
  hold(memberNames.base, 'digest', digestOfTree(base), story.started.workspace.digest);
  hold(memberNames.changeSet, 'digest', digestOfChangeSet(changeSet), story.collected.digest);
  hold(memberNames.policy, 'digest', policy.digest, story.opened.policy.digest);
  hold(memberNames.intent, '', intent, intentText(story));
  if (environment !== undefined) hold(memberNames.environment, 'lock.id', environment.lock.id, story.opened.image.id);
  holdDiff(facts, files, hold);
  holdApprovals(facts, hold);
  holdVerification(facts, hold);
  holdContexts(facts, hold);
  holdReplay(facts, hold);
  problems.push(...contentProblems(facts, files), ...fingerprintProblems(facts, files));
  return problems;
}

type Told = string | number | undefined;
type Hold = (member: string, field: string, found: Told, told: Told, by?: string) => void;

function holdDiff({ diff, changeSet, base, story, policy }: Facts, { members }: BundleFiles, hold: Hold): void {
  const name = memberNames.diff;
  hold(name, 'policy', diff.policy, policy.digest, memberNames.policy);
  hold(name, 'patchBytes', diff.patchBytes, members.get(memberNames.patch)?.bytes, memberNames.patch);
  const told = [...changeSet.changes].map(([path, change]) => ({ path, status: statusOf(change, base.get(path)) }));
  hold(name, 'changes.length', diff.changes.length, told.length, memberNames.changeSet);
  told.forEach(({ path, status }, index) => {
    hold(name, `changes.${index}.path`, diff.changes[index]?.path, path, memberNames.changeSet);
    hold(name, `changes.${index}.status`, diff.changes[index]?.status, status, memberNames.changeSet);
  });
  const counts: Record<string, number> = {};
  for (const { kind } of diff.findings) counts[kind] = (counts[kind] ?? 0) + 1;
  if (diff.held.length > 0) counts['held_back'] = diff.held.length;
  const { outside_write_scope: outside = 0, ...others } = story.collected.findings;
  hold(name, 'findings', canonicalJson(counts), canonicalJson(others));
  if (diff.violations.length > outside || (diff.violations.length === 0) !== (outside === 0))
    hold(name, 'violations.length', diff.violations.length, outside);
}

/** Each that is here was asked and decided so; one whose file was lost is in the journal alone. */
function holdApprovals({ approvals, story }: Facts, hold: Hold): void {
  approvals.forEach(({ request, outcome }, index) => {
    const [asked, decided] = [story.asked.get(request.id), story.decided.get(request.id)];
    const at = (field: string) => `${index}.${field}`;
    hold(memberNames.approvals, at('request.run'), request.run, story.run);
    hold(memberNames.approvals, at('request.digest'), request.digest, asked?.digest);
    for (const key of ['category', 'at', 'rule', 'quorum', 'expiresAt', 'callId'] as const)
      hold(memberNames.approvals, at(`request.${key}`), request[key], asked?.[key]);
    if (decided === undefined) return hold(memberNames.approvals, at('outcome'), outcome?.kind, undefined);
    hold(memberNames.approvals, at('outcome.kind'), outcome?.kind, decided.verdict);
    hold(memberNames.approvals, at('outcome.by'), canonicalJson(outcome?.by ?? null), canonicalJson(decided.by));
    hold(memberNames.approvals, at('outcome.reason'), outcome?.reason, decided.reason);
  });
}

function holdVerification({ verification, verificationHeads, story, policy, changeSet }: Facts, hold: Hold): void {
  const name = memberNames.verification;
  const heads = new Map(verification?.runs.map(({ run, journal }) => [run, journal]));
  for (const [run, head] of verificationHeads) hold(`verification/${run}.ndjson`, 'head', head, heads.get(run), name);
  if (verification === undefined) return;
  const { workspace } = story.started;
  hold(name, 'run', verification.run, story.run);
  hold(name, 'candidate', verification.candidate, digestOfChangeSet(changeSet), memberNames.changeSet);
  hold(name, 'base.digest', verification.base.digest, workspace.digest);
  hold(name, 'base.commit', verification.base.commit, workspace.commit);
  hold(name, 'policy', verification.policy, policy.digest, memberNames.policy);
  hold(name, 'image.id', verification.image.id, story.opened.image.id);
}

/** What the journal says of a snapshot is what it says. */
function holdContexts({ story, contexts }: Facts, hold: Hold): void {
  for (const { said } of story.work.attached) {
    const snapshot = contexts.get(said.digest);
    if (snapshot === undefined) continue; // that it is missing was said
    const { digest, number, by } = said;
    const bytes = Buffer.byteLength(encodeContext(snapshot));
    const found = contextEntry(snapshot, { digest, number, bytes, by });
    hold(contextName(digest), '', canonicalJson(found), canonicalJson(said));
  }
}

function holdReplay({ replay, story, policy, changeSet }: Facts, hold: Hold): void {
  if (replay === undefined) return;
  const name = memberNames.replay;
  hold(name, 'run', replay.run, story.run);
  hold(name, 'journal', replay.journal, story.head);
  hold(name, 'candidate', replay.candidate, digestOfChangeSet(changeSet), memberNames.changeSet);
  hold(name, 'base', replay.base, story.started.workspace.digest);
  hold(name, 'policy', replay.policy, policy.digest, memberNames.policy);
  hold(name, 'image.id', replay.image.id, story.opened.image.id);
}

/** Every new content is there, and nothing besides; of outputs what is left of them. */
function contentProblems({ changeSet, story }: Facts, { members }: BundleFiles): readonly Problem[] {
  const problems: Problem[] = [];
  const named = new Map<string, number>();
  for (const change of changeSet.changes.values())
    if (change.kind === 'file') named.set(contentName(change.digest), change.sizeBytes);
  for (const [name, bytes] of named) {
    const found = members.get(name)?.bytes;
    if (found === undefined) problems.push(problem(name, '', 'it is missing, and the change set names it'));
    else if (found !== bytes) problems.push(problem(name, 'bytes', `${found}, and the change set says ${bytes}`));
  }
  for (const [digest, { bytes }] of story.outputs) named.set(outputName(digest), bytes);
  for (const { said } of story.work.attached) named.set(contextName(said.digest), said.bytes);
  for (const { path, bytes } of members.values()) {
    if (!/^(?:contents|outputs|context)\//.test(path)) continue;
    const told = named.get(path);
    if (told === undefined) problems.push(problem(path, '', 'nothing in the bundle names it'));
    else if (told !== bytes) problems.push(problem(path, 'bytes', `${bytes}, and the bundle says ${told}`));
  }
  return problems;
}

function text(value: Told): string {
  return value === undefined ? 'nothing' : String(value).slice(0, 120);
}
