import pc from 'picocolors';
import type { DiffView } from '../contract/diff-view.ts';
import { printable } from '../journal/printable.ts';
import { bytesText } from './terminal.ts';
import { plural } from '../plural.ts';

/** What a person wants to see of what a run proposes: what changed, what was refused or held back, what went wrong before (`earlier`), and what to type next. */
export function candidateLines(run: string, diff: DiffView, earlier: readonly string[] = []): string[] {
  const changed = diff.changes.length === 0 ? ['  no change in the write scope'] : diff.changes.map(changeLine);
  const refused = diff.findings
    .filter((finding) => finding.effect === 'refused')
    .map((finding) => `  ${pc.red('refused')} ${printable(finding.path)} (${finding.kind})`);
  const inScratch = diff.findings
    .filter((finding) => finding.kind === 'base_in_scratch')
    .map(
      (finding) =>
        `  ${pc.yellow('stays inside')} ${printable(finding.path)} (changed, and files.scratch of the policy names it)`,
    );
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
      ? [pc.dim(`  scratch: ${plural(diff.scratch.files, 'file')}, ${bytesText(diff.scratch.bytes)}, never exported`)]
      : [];
  return [
    '',
    pc.bold(`run ${run}`),
    ...changed.slice(0, 40),
    ...refused.slice(0, 20),
    ...incomplete.slice(0, 20),
    ...outside.slice(0, 20),
    ...inScratch.slice(0, 20),
    ...held.slice(0, 20),
    ...due,
    ...earlier,
    ...scratch,
    pc.dim(`next: glovebox diff ${run}   glovebox log ${run}   glovebox check ${run}`),
  ];
}

function changeLine({ path, status, categories, added, removed }: DiffView['changes'][number]): string {
  const counts = added === null ? '' : ` ${pc.green(`+${added}`)} ${pc.red(`-${removed ?? 0}`)}`;
  const flags = categories.filter((category) => category !== 'source');
  return `  ${status.padEnd(9)} ${printable(path)}${counts}${flags.length === 0 ? '' : pc.dim(` [${flags.join(', ')}]`)}`;
}
