import type { DriftKind } from '../language/drift.ts';
import type { SourceFile } from '../language/source-file.ts';
import type { Held } from '../layers/held.ts';
import type { LoadedPolicy } from '../layers/effective-policy.ts';
import { egressRuleText, upstreamText } from './egress-text.ts';
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
    line('egress', policy.egress.profiles.length === 0 ? 'none' : policy.egress.profiles.join(', ')),
    ...egressLines(loaded, line),
    ...policy.approvals.everyExport.map((name) => line(`approvals.${name}`, 'needed for every export')),
    ...commandLines(loaded),
    ...contextLines(loaded),
    ...verifyLines(loaded),
    ...driftLines(loaded),
    ...replayLines(loaded),
    ...triggerLines(loaded),
  ];
}

/** Where nothing is reached, its bounds say nothing. */
function egressLines(
  { chain, policy }: LoadedPolicy,
  line: (key: string, value: string) => ExplainedLine,
): readonly ExplainedLine[] {
  const { egress, environment } = policy;
  const setup = environment?.egress;
  if (egress.profiles.length === 0 && setup === undefined) return [];
  const rules = new Map([...egress.rules, ...(setup?.rules ?? [])].map((rule) => [rule.id, rule]));
  const { dns } = egress;
  return [
    ...[...rules.values()].map((rule) => ({
      key: `egress.${rule.id}`,
      value: egressRuleText(rule),
      ...whoSaysRule(chain, policy.layers, rule),
    })),
    ...egress.upstreams.map((upstream) => ({
      key: `egress.${upstream.id}`,
      value: upstreamText(upstream),
      ...whoSaysUpstream(chain, policy.layers, upstream.id),
    })),
    ...(setup === undefined ? [] : [line('environment.egress', setup.profiles.join(', '))]),
    line('egress.mode', egress.mode),
    line('egress.max_connections', `${egress.maxConnections}`),
    line('egress.dns.max_names', `${dns.maxNames}`),
    line('egress.dns.max_unlisted', `${dns.maxUnlisted}`),
    line('egress.dns.on_excess', dns.onExcess),
  ];
}

type Who = Pick<ExplainedLine, 'layer' | 'place'>;

function whoSaysRule(
  chain: LoadedPolicy['chain'],
  layers: readonly string[],
  { profile, id }: { readonly profile: string; readonly id: string },
): Who {
  const index = chain.findIndex(({ file }) => file.egress?.profiles?.[profile] !== undefined);
  const rules = chain[index]?.file.egress?.profiles?.[profile] ?? [];
  // One with a registry stands for several: `npm`, `npm.2`.
  const at = rules.findIndex((rule) => rule.id === id || (rule.registry !== undefined && id.startsWith(`${rule.id}.`)));
  return { layer: layers[index] ?? '', place: chain[index]?.placeOf(['egress', 'profiles', profile, at]) ?? 'default' };
}

function whoSaysUpstream(chain: LoadedPolicy['chain'], layers: readonly string[], id: string): Who {
  const at = (index: number): number => chain[index]?.file.egress?.upstreams?.findIndex((one) => one.id === id) ?? -1;
  const index = chain.findIndex((_, file) => at(file) >= 0);
  return { layer: layers[index] ?? '', place: chain[index]?.placeOf(['egress', 'upstreams', at(index)]) ?? 'default' };
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

/** Each with the first file that asks for it; the age with the one that asks for the shortest. */
function contextLines({ chain, policy }: LoadedPolicy): readonly ExplainedLine[] {
  const { context } = policy;
  if (context === undefined) return [];
  const said = (index: number, path: readonly (string | number)[]): Pick<ExplainedLine, 'layer' | 'place'> => ({
    layer: policy.layers[index] ?? 'default',
    place: chain[index]?.placeOf(path) ?? 'default',
  });
  const exact = chain.findIndex(({ file }) => file.context?.attribution === 'exact');
  const attribution =
    exact < 0 ? [] : [{ key: 'context.attribution', value: 'exact', ...said(exact, ['context', 'attribution']) }];
  if (context.freshBefore.length === 0) return attribution;
  const names = context.freshBefore.map((name) => {
    const index = chain.findIndex(({ file }) => file.context?.fresh_before?.includes(name) === true);
    return { key: `context.${name}`, value: 'needs a fresh snapshot', ...said(index, ['context', 'fresh_before']) };
  });
  const age = chain.findIndex(({ file }) => file.context?.max_age_calls === context.maxAgeCalls);
  const value = context.maxAgeCalls === null ? 'none' : `${context.maxAgeCalls}`;
  return [
    ...names,
    { key: 'context.max_age_calls', value, ...said(age, ['context', 'max_age_calls']) },
    ...attribution,
  ];
}

function replayLines({ chain, policy }: LoadedPolicy): readonly ExplainedLine[] {
  const { replay } = policy;
  if (replay === undefined) return [];
  const told = (key: 'noise' | 'network', value: string): ExplainedLine => {
    const index = chain.findLastIndex(({ file }) => file.replay?.[key] !== undefined);
    const place = chain[index]?.placeOf(['replay', key]) ?? 'default';
    return { key: `replay.${key}`, value, layer: index < 0 ? 'default' : (policy.layers[index] ?? ''), place };
  };
  const noise = replay.noise.length === 0 ? 'only what always is' : replay.noise.join('  ');
  return [told('noise', noise), told('network', replay.network ? 'that of the run' : 'none, unless --network')];
}

/** Gates of this task, and what the diff may be where somebody says so. */
function verifyLines({ chain, policy }: LoadedPolicy): readonly ExplainedLine[] {
  const { verify } = policy;
  if (verify === undefined) return [];
  const gates = verify.gates.map(({ id, command, required, redGreen }) => {
    const index = chain.findIndex(({ file }) => file.verify?.gates?.some((gate) => gate.id === id));
    const at = chain[index]?.file.verify?.gates?.findIndex((gate) => gate.id === id) ?? -1;
    const what = 'script' in command ? 'a script' : command.argv.join(' ');
    const more = [...(redGreen ? ['red before, green after'] : []), ...(required ? [] : ['not required'])];
    return {
      key: `verify.${id}`,
      value: [what, ...more].join('; '),
      layer: policy.layers[index] ?? '',
      place: chain[index]?.placeOf(['verify', 'gates', at]) ?? 'default',
    };
  });
  const { files, lines, generated, binary } = verify.diff;
  const index = chain.findLastIndex(({ file }) => file.verify?.diff !== undefined);
  const who = {
    layer: index < 0 ? 'default' : (policy.layers[index] ?? ''),
    place: chain[index]?.placeOf(['verify', 'diff']) ?? 'default',
  };
  const value = `${files} files, ${lines} lines; generated: ${generated}; binary: ${binary}`;
  return [...gates, { key: 'verify.diff', value, ...who }];
}

/** Where somebody says something of it; of reactions those that do more than record. */
function driftLines({ chain, policy }: LoadedPolicy): readonly ExplainedLine[] {
  const { drift } = policy;
  if (drift === undefined) return [];
  const who = (says: (drift: NonNullable<SourceFile['file']['drift']>) => boolean, path: readonly string[]): Who => {
    const index = chain.findLastIndex(({ file }) => file.drift !== undefined && says(file.drift));
    if (index < 0) return { layer: 'default', place: 'default' };
    return { layer: policy.layers[index] ?? '', place: chain[index]?.placeOf(['drift', ...path]) ?? 'default' };
  };
  const every = drift.check.includes('after_calls') ? `, every ${drift.afterCallsEvery} calls` : '';
  const reactions = (Object.keys(drift.reactions) as DriftKind[]).filter((kind) => drift.reactions[kind] !== 'note');
  return [
    {
      key: 'drift.check',
      value: `${listText(drift.check)}${every}`,
      ...who(({ check }) => check !== undefined, ['check']),
    },
    {
      key: 'drift.clock_skew',
      value: timeText(drift.clockSkewMs),
      ...who(({ clock_skew: skew }) => skew === drift.clockSkewMs, ['clock_skew']),
    },
    ...reactions.map((kind) => ({
      key: `drift.${kind}`,
      value: drift.reactions[kind],
      ...who((says) => says.reactions?.[kind] === drift.reactions[kind], ['reactions', kind]),
    })),
  ];
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
