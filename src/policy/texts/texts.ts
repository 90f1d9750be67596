import type { Decision } from '../decisions/decide.ts';
import type { LoadedPolicy } from '../layers/effective-policy.ts';
import { explainPolicy } from './explain.ts';
import type { ChangedDecision, ReachDiff } from './reach-diff.ts';

/** Markdown that reads well in a terminal and in a pull request. */

export function explainText(loaded: LoadedPolicy): string {
  const { policy, digest } = loaded;
  const { taskClass, lane, risk, layers, name } = policy;
  const rows = explainPolicy(loaded).map(({ key, value, layer, place }) => [
    key,
    value,
    place === 'default' ? 'default' : `${layer}, ${place}`,
  ]);
  return [
    `## Policy ${name}${taskClass === null ? '' : `, class ${taskClass}`}`,
    '',
    `Risk ${risk}${lane === null ? '' : `, lane ${lane}`}; layers: ${layers.join(', ')}.`,
    `Digest \`${digest}\`.`,
    '',
    '| key | holds | decided by |',
    '|---|---|---|',
    ...rows.map((row) => `| ${row.map(cell).join(' | ')} |`),
  ].join('\n');
}

export function decisionText(asked: string, decision: Decision, place: string | undefined): string {
  const { effect, rule, layer, reason, hint, approvals, risk, tags } = decision;
  const needed = approvals.map(({ category, at }) => `${category} (before ${at === 'call' ? 'it runs' : 'it leaves'})`);
  return [
    `**${effect}** \`${asked.replaceAll('`', "'")}\``,
    '',
    `- rule: ${rule}${place === undefined ? '' : `, ${place}`}`,
    `- layer: ${layer}`,
    `- why: ${reason}`,
    ...(hint === '' ? [] : [`- what then: ${hint}`]),
    ...(needed.length === 0 ? [] : [`- approvals: ${needed.join(', ')}`]),
    ...(tags.length === 0 ? [] : [`- tags: ${tags.join(', ')}`]),
    `- risk: ${risk}`,
  ].join('\n');
}

export interface ComparedClass {
  readonly class: string | null;
  readonly there: { readonly before: boolean; readonly after: boolean };
  readonly reach: ReachDiff | undefined;
  readonly decisions: readonly ChangedDecision[];
}

export function diffText(before: string, after: string, classes: readonly ComparedClass[]): string {
  return [`## ${before} -> ${after}`, ...classes.flatMap((compared) => ['', ...classText(compared)])].join('\n');
}

function classText({ class: name, there, reach, decisions }: ComparedClass): readonly string[] {
  const title = name === null ? [] : [`### class ${name}`, ''];
  if (reach === undefined)
    return [...title, there.after ? 'New: such tasks become possible.' : 'Gone: no such task is possible any more.'];
  const same = [reach.gained, reach.lost, reach.other, decisions].every((list) => list.length === 0);
  if (same) return [...title, 'No difference in reach.'];
  return [
    ...title,
    ...section('Becomes possible', reach.gained),
    ...section('Stops being possible', reach.lost),
    ...section('Changes', reach.other),
    ...section(
      'Decided differently',
      decisions.map(({ asked, before, after }) => `\`${asked}\`: ${before} -> ${after}`),
    ),
  ];
}

function section(title: string, lines: readonly string[]): readonly string[] {
  return lines.length === 0 ? [] : [`**${title}**`, '', ...lines.map((line) => `- ${line}`), ''];
}

function cell(text: string): string {
  return text.replaceAll('|', String.raw`\|`).replaceAll('\n', ' ');
}
