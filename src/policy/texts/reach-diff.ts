import { compileRules, decide } from '../decisions/decide.ts';
import { reachText, upstreamText } from './egress-text.ts';
import { whenText } from './explain.ts';
import { covers } from '../layers/glob-algebra.ts';
import { noDriftRules, type EffectiveDrift } from '../layers/effective-drift.ts';
import type { Policy } from '../layers/effective-policy.ts';
import { questionOf } from '../decisions/policy-tests.ts';
import type { SourceFile } from '../language/source-file.ts';
import { sizeText, timeText } from './units-text.ts';

export interface ReachDiff {
  /** What becomes possible. */
  readonly gained: readonly string[];
  /** What stops being possible. */
  readonly lost: readonly string[];
  /** What is neither more nor less. */
  readonly other: readonly string[];
}

/** Two effective policies compared in what a run can reach; the words are for a reviewer. */
export function reachDiff(before: Policy, after: Policy): ReachDiff {
  const gained: string[] = [];
  const lost: string[] = [];
  const other: string[] = [];
  const add = (became: readonly string[], stopped: readonly string[], verb: string): void => {
    gained.push(...became.map((what) => `${verb} ${what}`));
    lost.push(...stopped.map((what) => `${verb} ${what}`));
  };
  for (const [verb, list] of pathVerbs) {
    const [then, now] = [listOf(before, list), listOf(after, list)];
    add(beyond(now, then), beyond(then, now), verb);
  }
  // More of these is less reach.
  add(
    beyond(before.files.deny, after.files.deny),
    beyond(after.files.deny, before.files.deny),
    'find, although it was or is denied:',
  );
  add(without(after.tools.allow, before.tools.allow), without(before.tools.allow, after.tools.allow), 'call the tool');
  add(without(after.images, before.images), without(before.images, after.images), 'run the image');
  add(without(egressOf(after), egressOf(before)), without(egressOf(before), egressOf(after)), 'request');
  add(
    without(setupEgressOf(after), setupEgressOf(before)),
    without(setupEgressOf(before), setupEgressOf(after)),
    'set up with',
  );
  add(
    without(addressesOf(after), addressesOf(before)),
    without(addressesOf(before), addressesOf(after)),
    'reach addresses of',
  );
  add(
    without(leniencyOf(after), leniencyOf(before)),
    without(leniencyOf(before), leniencyOf(after)),
    'count as replayed although there differs',
  );
  for (const [what, then, now, text] of [...numbersOf(before, after), ...egressNumbersOf(before, after)]) {
    if (then === now) continue;
    const line = `${what}: ${text(now)} instead of ${text(then)}`;
    (bigger(then, now) ? gained : lost).push(line);
  }
  for (const [what, then, now] of stricterSets(before, after)) {
    gained.push(...without(then, now).map((one) => `${what} no longer: ${one}`));
    lost.push(...without(now, then).map((one) => `${what}: ${one}`));
  }
  if (before.runtime !== after.runtime)
    (after.runtime === 'runsc' ? lost : gained).push(`runtime ${after.runtime} instead of ${before.runtime}`);
  if (before.egress.mode !== after.egress.mode)
    (after.egress.mode === 'enforce' ? lost : gained).push(
      `egress mode ${after.egress.mode} instead of ${before.egress.mode}`,
    );
  if (before.risk !== after.risk) other.push(`the risk is ${after.risk} instead of ${before.risk}`);
  if (before.lane !== after.lane) other.push(`the lane is ${after.lane ?? 'none'} instead of ${before.lane ?? 'none'}`);
  return { gained, lost, other };
}

const pathVerbs = [
  ['see', 'read'],
  ['change', 'write'],
  ['change, with an approval,', 'writeAsk'],
  ['propose to change', 'proposeOnly'],
  ['write, without export,', 'scratch'],
] as const;

function listOf(policy: Policy, list: (typeof pathVerbs)[number][1]): readonly string[] {
  return policy.paths.at(-1)?.[list] ?? [];
}

/** What `list` names and `than` does not cover; an exclusion that is gone counts as named. */
function beyond(list: readonly string[], than: readonly string[]): readonly string[] {
  const plain = list.filter((glob) => !glob.startsWith('!'));
  const wide = than.filter((glob) => !glob.startsWith('!'));
  const named = plain.filter((glob) => !wide.some((outer) => covers(outer, glob)));
  const reopened = than
    .filter((glob) => glob.startsWith('!') && !list.includes(glob))
    .map((glob) => glob.slice(1))
    .filter((glob) => plain.some((outer) => covers(outer, glob)));
  return [...named, ...reopened];
}

function without(list: readonly string[], other: readonly string[]): readonly string[] {
  return list.filter((item) => !other.includes(item));
}

function egressOf({ egress }: Policy): readonly string[] {
  return [...egress.rules.map(reachText), ...egress.upstreams.map(upstreamText)];
}

function setupEgressOf({ environment }: Policy): readonly string[] {
  return [
    ...(environment?.egress?.rules.map(reachText) ?? []),
    ...(environment?.egress?.upstreams.map(upstreamText) ?? []),
  ];
}

function addressesOf({ egress }: Policy): readonly string[] {
  return egress.rules.flatMap(({ id, addresses }) => addresses.map((range) => `${range} with ${id}`));
}

type NumberLine = readonly [what: string, before: number, after: number, text: (value: number) => string];

function numbersOf(a: Policy, b: Policy): readonly NumberLine[] {
  const count = (value: number): string => `${value}`;
  const orNone =
    (text: (value: number) => string) =>
    (value: number): string =>
      value === Number.POSITIVE_INFINITY ? 'no limit' : text(value);
  const open = (value: number): number => (value === 0 ? Number.POSITIVE_INFINITY : value);
  return [
    ['memory', a.limits.memoryBytes, b.limits.memoryBytes, sizeText],
    ['processors', a.limits.cpus, b.limits.cpus, count],
    ['processes', a.limits.pidsMax, b.limits.pidsMax, count],
    ['workspace', a.limits.workspaceBytes, b.limits.workspaceBytes, sizeText],
    ['time of a run', a.limits.wallClockMs, b.limits.wallClockMs, timeText],
    ['time of a command', a.limits.commandTimeoutMs, b.limits.commandTimeoutMs, timeText],
    ['silence of a command', open(a.limits.idleTimeoutMs), open(b.limits.idleTimeoutMs), orNone(timeText)],
    ['output of a run', a.limits.outputPerRunBytes, b.limits.outputPerRunBytes, sizeText],
    ['calls', a.budget.maxActionsPerRun, b.budget.maxActionsPerRun, count],
    ['denied calls', a.budget.maxDeniedActions, b.budget.maxDeniedActions, count],
    [
      'denied calls in a row',
      open(a.budget.maxConsecutiveDenials),
      open(b.budget.maxConsecutiveDenials),
      orNone(count),
    ],
    ['approvals asked for', a.budget.maxApprovalRequests, b.budget.maxApprovalRequests, count],
    ['calls with one context snapshot', ageOf(a), ageOf(b), orNone(count)],
    ['calls at a time', a.budget.maxParallelActions, b.budget.maxParallelActions, count],
    ['calls a minute', open(a.budget.maxActionsPerMinute), open(b.budget.maxActionsPerMinute), orNone(count)],
    ['clock skew', driftOf(a).clockSkewMs, driftOf(b).clockSkewMs, timeText],
    ['calls between looks for drift', looksEvery(a), looksEvery(b), orNone(count)],
    ['seconds of processor time', open(a.budget.cpuSeconds), open(b.budget.cpuSeconds), orNone(count)],
    ['files of a diff', open(a.budget.diffFiles), open(b.budget.diffFiles), orNone(count)],
    ['lines of a diff', open(a.budget.diffLines), open(b.budget.diffLines), orNone(count)],
    ...[...new Set([...Object.keys(a.budget.maxActionsByTag), ...Object.keys(b.budget.maxActionsByTag)])].map(
      (tag): NumberLine => {
        const of = ({ budget }: Policy): number => budget.maxActionsByTag[tag] ?? Number.POSITIVE_INFINITY;
        return [`calls tagged ${tag}`, of(a), of(b), orNone(count)];
      },
    ),
  ];
}

/** Where no call needs a snapshot, its age is nobody's bound. */
function ageOf({ context }: Policy): number {
  return context === undefined || context.freshBefore.length === 0
    ? Number.POSITIVE_INFINITY
    : (context.maxAgeCalls ?? Number.POSITIVE_INFINITY);
}

/** Of rules that both have; without any rule the bounds mean nothing. */
function egressNumbersOf({ egress: a }: Policy, { egress: b }: Policy): readonly NumberLine[] {
  if (a.profiles.length === 0 || b.profiles.length === 0) return [];
  const count = (value: number): string => `${value}`;
  const ofRules = a.rules.flatMap((then): readonly NumberLine[] => {
    const now = b.rules.find(({ id }) => id === then.id);
    if (now === undefined) return [];
    return [
      [`bytes out with ${then.id}`, then.maxSentBytes, now.maxSentBytes, sizeText],
      [`bytes in with ${then.id}`, then.maxReceivedBytes, now.maxReceivedBytes, sizeText],
      [`requests with ${then.id}`, then.maxRequests, now.maxRequests, count],
      [`time of a request with ${then.id}`, then.timeoutMs, now.timeoutMs, timeText],
    ];
  });
  return [
    ...ofRules,
    ['connections at a time', a.maxConnections, b.maxConnections, count],
    ['names under a star', a.dns.maxNames, b.dns.maxNames, count],
    ['unlisted names asked for', a.dns.maxUnlisted, b.dns.maxUnlisted, count],
  ];
}

function bigger(before: number, after: number): boolean {
  return after > before;
}

/** Of which one more makes less possible. */
function stricterSets(a: Policy, b: Policy): readonly (readonly [string, readonly string[], readonly string[]])[] {
  const rules = ({ commands }: Policy, effect: string): readonly string[] =>
    commands.flatMap((layer) => layer.rules.filter((rule) => rule.effect === effect).map(({ id }) => id));
  const denials = ({ egress }: Policy): readonly string[] => egress.deny.map(({ id }) => id);
  const triggers = ({ approvals }: Policy): readonly string[] =>
    approvals.triggers.map(({ category, when }) => `${category} on ${whenText(when)}`);
  const escalators = ({ escalators }: Policy): readonly string[] => escalators.map(({ id, to }) => `${id} to ${to}`);
  return [
    ['denies the command', rules(a, 'deny'), rules(b, 'deny')],
    ['asks for the command', rules(a, 'require_approval'), rules(b, 'require_approval')],
    ['denies the address', denials(a), denials(b)],
    ['asks for an approval', triggers(a), triggers(b)],
    ['asks what the agent believes before', a.context?.freshBefore ?? [], b.context?.freshBefore ?? []],
    ['asks before every export', a.approvals.everyExport, b.approvals.everyExport],
    ['raises the risk', escalators(a), escalators(b)],
    ['looks for drift at', driftOf(a).check, driftOf(b).check],
    ['on drift', driftReactions(a), driftReactions(b)],
  ];
}

function looksEvery(policy: Policy): number {
  const { check, afterCallsEvery } = driftOf(policy);
  return check.includes('after_calls') ? afterCallsEvery : Number.POSITIVE_INFINITY;
}

function driftOf({ drift = noDriftRules }: Policy): EffectiveDrift {
  return drift;
}

function driftReactions(policy: Policy): readonly string[] {
  return Object.entries(driftOf(policy).reactions)
    .filter(([, reaction]) => reaction !== 'note')
    .map(([kind, reaction]) => `${reaction} (${kind})`);
}

export interface ChangedDecision {
  readonly asked: string;
  readonly before: string;
  readonly after: string;
}

/** What the tests and the command examples of both ask, where the answers differ. */
export function decisionDiff(
  chains: readonly (readonly SourceFile[])[],
  before: Policy,
  after: Policy,
  taskClass: string | undefined,
): readonly ChangedDecision[] {
  const files = chains.flat().map(({ file }) => file);
  const given = [
    ...files.flatMap(({ tests }) => (tests ?? []).map((test) => test.given)),
    ...files.flatMap(({ commands }) =>
      (commands ?? []).flatMap(({ tests }) => tests.match.map((command) => ({ command }))),
    ),
  ].filter((one) => !('class' in one) || one.class === undefined || one.class === taskClass);
  const [then, now] = [compileRules(before), compileRules(after)];
  const changed = given.flatMap((one) => {
    const question = questionOf(one);
    if (question === undefined) return [];
    const [a, b] = [decide(then, question), decide(now, question)];
    const text = ({ effect, rule }: typeof a): string => `${effect} (${rule})`;
    const asked = Object.entries(one).find(([key, value]) => key !== 'class' && typeof value === 'string');
    return a.effect === b.effect
      ? []
      : [{ asked: asked?.map(String).join(' ') ?? '', before: text(a), after: text(b) }];
  });
  return changed.filter(({ asked }, at) => changed.findIndex((one) => one.asked === asked) === at);
}

/** What a replay looks past. */
function leniencyOf({ replay }: Policy): readonly string[] {
  return replay === undefined ? [] : [...replay.noise, ...(replay.network ? ['what servers outside answer'] : [])];
}
