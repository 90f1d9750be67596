import pc from 'picocolors';
import { printable } from '../journal/printable.ts';
import type { Run } from '../runner.ts';
import { exportDocument } from '../runner.ts';
import type { Candidate } from '../workspace/changes/candidate.ts';
import { bytesText } from './terminal.ts';

/** What a script wants to know of a closed run. */
export function runSummary(run: Run): Record<string, unknown> {
  return {
    run: run.id,
    state: run.candidate === undefined ? 'lost' : 'closed',
    directory: run.dir.path,
    remaining: run.remaining(),
    diff: run.candidate === undefined ? null : exportDocument(run.candidate, run.policy.digest),
  };
}

/** What a person wants to see when a run has ended: what changed, what was refused, and what to type next. */
export function closingLines(run: Run): string[] {
  const diff = run.candidate;
  const next = `glovebox diff ${run.id}   glovebox log ${run.id}   glovebox check ${run.id}`;
  if (diff === undefined)
    return ['', pc.red(`run ${run.id}: the sandbox was lost; the journal says why: glovebox log ${run.id}`)];
  const changed =
    diff.classified.length === 0
      ? ['  no change in the write scope']
      : diff.classified.map((change) => changeLine(diff, change.path));
  const refused = diff.findings
    .filter((finding) => finding.effect === 'refused')
    .map((finding) => `  ${pc.red('refused')} ${printable(finding.path)} (${finding.kind})`);
  const incomplete = diff.findings
    .filter((finding) => finding.effect === 'incomplete')
    .map(
      (finding) =>
        `  ${pc.red('not seen')} ${printable(finding.path)} (${finding.kind}: ${printable(finding.detail ?? '')})`,
    );
  const outside = diff.violations.map(
    (violation) =>
      `  ${pc.yellow('not exported')} ${printable(violation.path)} (${violation.kind} outside the write scope)`,
  );
  const held = diff.held.map(({ path, why, approvals }) => {
    const needs = approvals.length === 0 ? '' : `: needs ${approvals.join(', ')}`;
    return `  ${pc.yellow('held back')} ${printable(path)} (${why.replaceAll('_', ' ')}${needs})`;
  });
  const due = diff.due.length > 0 ? [`  before it is put to use: ${diff.due.join(', ')}`] : [];
  const scratch =
    diff.scratch.files > 0
      ? [pc.dim(`  scratch: ${diff.scratch.files} files, ${bytesText(diff.scratch.bytes)}, never exported`)]
      : [];
  return [
    '',
    pc.bold(`run ${run.id}`),
    ...changed.slice(0, 40),
    ...refused.slice(0, 20),
    ...incomplete.slice(0, 20),
    ...outside.slice(0, 20),
    ...held.slice(0, 20),
    ...due,
    ...scratch,
    pc.dim(`next: ${next}`),
  ];
}

function changeLine(diff: Candidate, path: string): string {
  const change = diff.classified.find((candidate) => candidate.path === path);
  const file = diff.patch.files.find((candidate) => candidate.path === path);
  const counts =
    file === undefined || file.added === undefined
      ? ''
      : ` ${pc.green(`+${file.added}`)} ${pc.red(`-${file.removed ?? 0}`)}`;
  const flags = (change?.categories ?? []).filter((category) => category !== 'source');
  return `  ${(change?.status ?? '').padEnd(9)} ${printable(path)}${counts}${flags.length === 0 ? '' : pc.dim(` [${flags.join(', ')}]`)}`;
}
