import type { Held } from '../layers/held.ts';
import type { LoadedPolicy } from '../layers/effective-policy.ts';
import { sizeText, timeText } from './units-text.ts';

/** One line of the effective policy: what holds, and who decided it. */
export interface ExplainedLine {
  readonly key: string;
  readonly value: string;
  readonly layer: string;
  /** `source:line:column`, or `default`. */
  readonly place: string;
}

/** The effective policy, line by line, with the layer that decided each. */
export function explainPolicy(loaded: LoadedPolicy): readonly ExplainedLine[] {
  const { policy, decidedBy } = loaded;
  const line = (key: string, value: string): ExplainedLine => ({ key, value, ...whoDecided(decidedBy.get(key)) });
  const { budget, limits } = policy;
  const last = policy.paths.at(-1);
  return [
    line('images', policy.images.join(', ')),
    line('runtime', policy.runtime),
    line('files.read', listText(last?.read)),
    line('files.write', listText(last?.write)),
    line('files.write_ask', listText(last?.writeAsk)),
    line('files.propose_only', listText(last?.proposeOnly)),
    line('files.scratch', listText(last?.scratch)),
    line('files.deny', listText(policy.files.deny)),
    line('tools.allow', listText(policy.tools.allow)),
    line('limits.memory', sizeText(limits.memoryBytes)),
    line('limits.cpus', `${limits.cpus}`),
    line('limits.pids', `${limits.pidsMax}`),
    line('limits.workspace', sizeText(limits.workspaceBytes)),
    line('limits.wall_clock', timeText(limits.wallClockMs)),
    line('limits.command_timeout', timeText(limits.commandTimeoutMs)),
    line('limits.idle_timeout', limits.idleTimeoutMs === 0 ? 'none' : timeText(limits.idleTimeoutMs)),
    line('limits.output_per_run', sizeText(limits.outputPerRunBytes)),
    line('budget.max_actions_per_run', `${budget.maxActionsPerRun}`),
    ...Object.entries(budget.maxActionsByTag).map(([tag, count]) =>
      line(`budget.max_actions_by_tag.${tag}`, `${count}`),
    ),
    line('budget.max_denied_actions', `${budget.maxDeniedActions}`),
    line('budget.max_consecutive_denials', noneOr(budget.maxConsecutiveDenials)),
    line('budget.max_approval_requests', `${budget.maxApprovalRequests}`),
    line('budget.max_parallel_actions', `${budget.maxParallelActions}`),
    line('budget.max_actions_per_minute', noneOr(budget.maxActionsPerMinute)),
    line('budget.cpu_seconds', noneOr(budget.cpuSeconds)),
    line('budget.diff_files', noneOr(budget.diffFiles)),
    line('budget.diff_lines', noneOr(budget.diffLines)),
    line(
      'egress',
      policy.egress.profiles.length === 0 ? 'none' : `${policy.egress.profiles.join(', ')} (no run has a network yet)`,
    ),
    ...policy.approvals.everyExport.map((name) => line(`approvals.${name}`, 'needed for every export')),
    ...commandLines(loaded),
    ...triggerLines(loaded),
  ];
}

function whoDecided(held: Held<unknown> | undefined): Pick<ExplainedLine, 'layer' | 'place'> {
  return held === undefined ? { layer: 'default', place: 'default' } : { layer: held.layer, place: held.place };
}

function commandLines({ chain, policy }: LoadedPolicy): readonly ExplainedLine[] {
  return chain.flatMap(({ file, placeOf }, index) =>
    (file.commands ?? []).map(({ id, effect, match, category }, at) => ({
      key: `commands.${id}`,
      value: `${effect}${category === undefined ? '' : ` (${category})`}: ${match.program.join(', ')}${match.subcommand === undefined ? '' : ` ${match.subcommand.join(', ')}`}`,
      layer: policy.layers[index] ?? '',
      place: placeOf(['commands', at]),
    })),
  );
}

function triggerLines({ chain, policy }: LoadedPolicy): readonly ExplainedLine[] {
  return chain.flatMap(({ file, placeOf }, index) => {
    const layer = policy.layers[index] ?? '';
    const risks = (file.risk?.escalators ?? []).map(({ id, to, when }, at) => ({
      key: `risk.${id}`,
      value: `${to}: ${whenText(when)}`,
      layer,
      place: placeOf(['risk', 'escalators', at]),
    }));
    const asks = (file.approvals?.triggers ?? []).map(({ category, when }, at) => ({
      key: `approvals.${category}`,
      value: `${policy.approvals.categories[category]?.effect === 'deny' ? 'never' : 'asked'}: ${whenText(when)}`,
      layer,
      place: placeOf(['approvals', 'triggers', at]),
    }));
    return [...risks, ...asks];
  });
}

/** `write_path a, b; command_tag c` */
export function whenText(when: Readonly<Record<string, unknown>>): string {
  return Object.entries(when)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key} ${Array.isArray(value) ? listText(value.map(String)) : String(value)}`)
    .join('; ');
}

function noneOr(count: number): string {
  return count === 0 ? 'none' : `${count}`;
}

const shownMax = 6;

function listText(list: readonly string[] | undefined): string {
  if (list === undefined || list.length === 0) return 'nothing';
  return list.length <= shownMax
    ? list.join(', ')
    : `${list.slice(0, shownMax).join(', ')}, and ${list.length - shownMax} more`;
}
