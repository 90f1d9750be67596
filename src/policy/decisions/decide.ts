import { posix } from 'node:path';
import { canonicalCommands, type CommandLine } from './canonical-command.ts';
import { CommandRules } from './command-rules.ts';
import { highestRisk } from '../layers/effective.ts';
import { answerEgress, placeOf } from './egress-question.ts';
import { EgressRules, type EgressRequest } from './egress-rules.ts';
import type { RiskLevel } from '../language/fields.ts';
import type { When } from '../language/rules.ts';
import { PathRules } from './path-rules.ts';
import type { Policy } from '../layers/effective-policy.ts';
import { Scope } from '../../workspace/scope/scope.ts';

/** What is asked. Paths as the agent gave them: absolute, or relative to the workspace. */
export type Question =
  | {
      readonly kind: 'call';
      readonly tool: string;
      readonly reads?: readonly string[];
      readonly writes?: readonly string[];
      readonly command?: CommandLine;
    }
  | ({ readonly kind: 'egress' } & EgressRequest);

export interface Decision {
  readonly effect: 'allow' | 'require_approval' | 'deny';
  /** The id of a rule, or the key of the policy that decided. */
  readonly rule: string;
  /** The layer that decided, such as `organisation org-floor`. */
  readonly layer: string;
  readonly reason: string;
  /** What would be allowed, or what to do instead. */
  readonly hint: string;
  readonly approvals: readonly Needed[];
  /** The risk of the run if this is done. */
  readonly risk: RiskLevel;
  readonly tags: readonly string[];
  readonly setEnv: Readonly<Record<string, string>>;
}

/** An approval, and when it is due: before the call, or before what was changed leaves the sandbox. */
export interface Needed {
  readonly category: string;
  readonly at: 'call' | 'export';
}

/** A policy, ready to answer. Compiling takes a millisecond, a decision some microseconds. */
export interface Rules {
  readonly policy: Policy;
  readonly paths: PathRules;
  readonly commands: CommandRules;
  readonly egress: EgressRules;
  readonly conditions: readonly Condition[];
}

type Condition = { readonly when: When; readonly writes: Scope | undefined } & (
  | { readonly kind: 'risk'; readonly to: RiskLevel }
  | { readonly kind: 'approval'; readonly category: string }
);

export function compileRules(policy: Policy): Rules {
  const compiled = (when: When) => ({ when, writes: scopeOf(when.write_path) });
  return {
    policy,
    paths: new PathRules(policy.paths),
    commands: new CommandRules(policy.commands),
    egress: new EgressRules(withoutApprovals(policy.egress)),
    conditions: [
      ...policy.escalators.map(({ when, to }) => ({ kind: 'risk' as const, to, ...compiled(when) })),
      ...policy.approvals.triggers.map(({ when, category }) => ({
        kind: 'approval' as const,
        category,
        ...compiled(when),
      })),
    ],
  };
}

/** Here an approval is an answer; to the fence it is a refusal. */
function withoutApprovals(egress: Policy['egress']): Policy['egress'] {
  return { ...egress, rules: egress.rules.map((rule) => ({ ...rule, approval: undefined })) };
}

/**
 * Pure. `deny > require_approval > allow > default deny`; order means nothing. What is refused here is told early and in
 * words; the fence is elsewhere: denied files are not in the sandbox, and what may not be written belongs to root, however a
 * command spells its path.
 */
export function decide(rules: Rules, question: Question): Decision {
  return question.kind === 'egress' ? decideEgress(rules, question) : decideCall(rules, question);
}

/** What stands against a call, or nothing; several may, and the strictest holds. */
type Finding = Pick<Decision, 'effect' | 'rule' | 'layer' | 'reason' | 'hint'> & {
  readonly approvals?: readonly Needed[];
};

function decideCall(rules: Rules, call: Extract<Question, { kind: 'call' }>): Decision {
  const { policy } = rules;
  if (!policy.tools.allow.includes(call.tool))
    return decision(rules, {
      effect: 'deny',
      rule: 'tools.allow',
      layer: 'policy',
      reason: `the policy "${policy.name}" does not allow the tool ${call.tool}`,
      hint: `Allowed are: ${policy.tools.allow.join(', ')}.`,
    });
  const commands =
    call.command === undefined || rules.commands.isEmpty
      ? undefined
      : rules.commands.decide(canonicalCommands(call.command));
  const tags = commands?.tags ?? [];
  const fired = firedBy(rules, { writes: inside(call.writes ?? []), tags });
  const kind = directoryTools.has(call.tool) ? 'directory' : 'file';
  const findings = [
    ...[...(call.reads ?? []), ...(call.writes ?? [])].flatMap((path) => absentFinding(rules, path, kind)),
    ...(call.reads ?? []).flatMap((path) => readFinding(rules, path)),
    ...(call.writes ?? []).flatMap((path) => writeFinding(rules, path, kind)),
    ...(commands === undefined ? [] : commandFinding(commands, policy)),
    ...fired.approvals.flatMap((needed) => approvalFinding(policy, needed)),
  ];
  const risk = highestRisk([policy.risk, fired.risk]);
  return decision(rules, strictest(findings), { findings, risk, tags, setEnv: commands?.setEnv ?? {} });
}

function decideEgress(rules: Rules, request: EgressRequest): Decision {
  const { policy } = rules;
  const found = answerEgress(rules.egress, request);
  switch (found.kind) {
    case 'denied':
      return decision(rules, {
        effect: 'deny',
        rule: found.id,
        layer: found.id.startsWith('egress.') ? 'policy' : 'egress.deny',
        reason: found.reason,
        hint: 'No profile can allow it.',
      });
    case 'upstream':
      return decision(rules, {
        effect: 'allow',
        rule: found.upstream.id,
        layer: `upstream ${found.upstream.id}`,
        reason: 'it is an upstream of this run',
        hint: '',
      });
    case 'unlisted': {
      const { approvals } = firedBy(rules, { unlisted: true });
      const findings = approvals.flatMap((needed) => approvalFinding(policy, needed));
      const denied: Finding = {
        effect: 'deny',
        rule: 'egress.profiles',
        layer: 'policy',
        reason: found.reason,
        hint: rules.egress.hint(placeOf(request)),
      };
      return decision(rules, findings.length > 0 ? strictest(findings) : denied, { findings });
    }
    case 'allowed': {
      const { credential } = found.rule;
      const fired = firedBy(rules, credential === undefined ? {} : { credential });
      const findings = fired.approvals.flatMap((needed) => approvalFinding(policy, needed));
      const allowed: Finding = {
        effect: 'allow',
        rule: found.rule.id,
        layer: `profile ${found.rule.profile}`,
        reason: `profile ${found.rule.profile} names it`,
        hint: '',
      };
      return decision(rules, strictest([allowed, ...findings]), {
        findings,
        risk: highestRisk([policy.risk, fired.risk]),
      });
    }
  }
}

/** What happens, as far as triggers and escalators ask. */
export interface Event {
  /** Relative to the workspace. */
  readonly writes?: readonly string[];
  readonly tags?: readonly string[];
  readonly detectors?: readonly string[];
  readonly unlisted?: boolean;
  readonly credential?: string;
}

/** Which approvals it needs, and which risk it carries. */
export function firedBy(rules: Rules, event: Event): { approvals: readonly Needed[]; risk: RiskLevel } {
  const approvals: Needed[] = [];
  const risks: RiskLevel[] = [];
  for (const condition of rules.conditions) {
    const at = fires(condition, event);
    if (at === undefined) continue;
    if (condition.kind === 'risk') risks.push(condition.to);
    else if (!approvals.some(({ category }) => category === condition.category))
      approvals.push({ category: condition.category, at });
  }
  return { approvals, risk: highestRisk(risks) };
}

/** Commands and requests are asked for before they happen; changes of files before they leave. */
function fires({ when, writes }: Condition, event: Event): Needed['at'] | undefined {
  if (event.tags?.some((tag) => when.command_tag?.includes(tag) === true) === true) return 'call';
  if (event.unlisted === true && when.egress === 'unlisted') return 'call';
  if (event.credential !== undefined && when.credential?.includes(event.credential) === true) return 'call';
  if (writes !== undefined && event.writes?.some((path) => writes.classOf(path) === 'write') === true) return 'export';
  if (event.detectors?.some((found) => when.diff_detector?.some((wanted) => wanted === found) === true) === true)
    return 'export';
  return undefined;
}

function absentFinding({ paths, policy }: Rules, path: string, kind: 'file' | 'directory'): readonly Finding[] {
  const relative = inWorkspace(path);
  if (relative === undefined || relative === '') return [];
  const found = paths.decide(relative, kind);
  if (found.class !== 'absent' || found.list !== 'deny') return [];
  return [
    {
      effect: 'deny',
      rule: 'files.deny',
      layer: found.layer,
      reason: `${shown(path)} is kept out of the sandbox by the policy "${policy.name}"`,
      hint: 'Do without it; another way to the same file does not exist.',
    },
  ];
}

/** Not copied in; unless something in a directory of that name is. */
function readFinding({ paths, policy }: Rules, path: string): readonly Finding[] {
  const relative = inWorkspace(path);
  if (relative === undefined || relative === '') return [];
  const found = paths.decide(relative);
  if (found.class !== 'absent' || found.list === 'deny') return [];
  if (paths.classOf(relative, 'directory') !== 'absent') return [];
  const reason = `${shown(path)} is not among the files that the policy "${policy.name}" shows`;
  const hint = `Shown are: ${listed(policy.files.read)}.`;
  return [{ effect: 'deny', rule: 'files.read', layer: found.layer, reason, hint }];
}

function writeFinding({ paths, policy }: Rules, path: string, kind: 'file' | 'directory'): readonly Finding[] {
  const relative = inWorkspace(path);
  // Outside of the workspace (/tmp, the home directory, the system) the sandbox itself decides.
  if (relative === undefined || relative === '') return [];
  const found = paths.decide(relative, kind);
  const { layer } = found;
  switch (found.class) {
    case 'write':
    case 'scratch':
    case 'propose_only': {
      const rule = `files.${found.class}`;
      const reason = found.class === 'write' ? `${rule} names it` : `${rule} names it: it stays in the sandbox`;
      return [{ effect: 'allow', rule, layer, reason, hint: '' }];
    }
    case 'write_ask':
      return approvalFinding(
        policy,
        { category: writeAskCategory, at: 'export' },
        layer,
        'files.write_ask',
        'files.write_ask names it',
      );
    case 'read':
    case 'absent': {
      const reason = `${shown(path)} is outside what the policy "${policy.name}" lets you change`;
      const hint = `You may change: ${listed([...policy.files.write, ...policy.files.scratch])}; and anything under /tmp.`;
      return [{ effect: 'deny', rule: 'files.write', layer, reason, hint }];
    }
  }
}

/** The approval of a `write_ask` path for which no trigger names another. */
export const writeAskCategory = 'write_ask';

function commandFinding(
  { effect, rule, layer }: NonNullable<ReturnType<CommandRules['decide']>>,
  policy: Policy,
): readonly Finding[] {
  if (rule === undefined)
    return [
      {
        effect: 'deny',
        rule: 'commands',
        layer,
        reason: 'no rule for commands names it',
        hint: 'What no rule names is not allowed. `glovebox policy why` shows how it is read.',
      },
    ];
  if (effect === 'require_approval')
    return approvalFinding(policy, { category: rule.category ?? rule.id, at: 'call' }, layer, rule.id, rule.reason);
  const reason = rule.reason ?? (effect === 'deny' ? `the rule ${rule.id} denies it` : `the rule ${rule.id} allows it`);
  return [{ effect, rule: rule.id, layer, reason, hint: rule.hint ?? '' }];
}

function approvalFinding(
  policy: Policy,
  needed: Needed,
  layer = 'approvals',
  rule = `approvals.${needed.category}`,
  reason?: string,
): readonly Finding[] {
  const category = policy.approvals.categories[needed.category];
  if (category?.effect === 'deny')
    return [
      {
        effect: 'deny',
        rule,
        layer,
        reason: category.note ?? `approvals of ${needed.category} are never granted while a run is open`,
        hint: 'Leave it to those who may, outside of a run.',
      },
    ];
  const people = category?.quorum === undefined || category.quorum === 1 ? 'one person' : `${category.quorum} people`;
  const due = needed.at === 'call' ? 'before it runs' : 'before the change leaves the sandbox';
  return [
    {
      effect: 'require_approval',
      rule,
      layer,
      reason: reason ?? `it needs an approval (${needed.category})`,
      hint: `To be approved by ${people} ${due}.`,
      approvals: [needed],
    },
  ];
}

const order = { deny: 2, require_approval: 1, allow: 0 } as const;

function strictest(findings: readonly Finding[]): Finding {
  const allowed: Finding = {
    effect: 'allow',
    rule: 'tools.allow',
    layer: 'policy',
    reason: 'the policy allows it',
    hint: '',
  };
  const [first] = findings;
  if (first === undefined) return allowed;
  return findings.reduce((a, b) => (order[b.effect] > order[a.effect] ? b : a), first);
}

function decision(
  { policy }: Rules,
  finding: Finding,
  rest: Partial<Pick<Decision, 'risk' | 'tags' | 'setEnv'>> & { readonly findings?: readonly Finding[] } = {},
): Decision {
  const { effect, rule, layer, reason, hint } = finding;
  const all = effect === 'deny' ? [] : (rest.findings ?? [finding]).flatMap(({ approvals: needed = [] }) => needed);
  // Where a trigger says which approval it is, that one stands for the list too.
  const named = all.filter(({ category, at }) => at === 'export' && category !== writeAskCategory);
  const approvals = named.length === 0 ? all : all.filter(({ category }) => category !== writeAskCategory);
  return {
    effect,
    rule,
    layer,
    reason,
    hint,
    approvals: approvals.filter(({ category }, at) => approvals.findIndex((one) => one.category === category) === at),
    risk: rest.risk ?? policy.risk,
    tags: rest.tags ?? [],
    setEnv: rest.setEnv ?? {},
  };
}

/** Their path is a directory: what counts is whether something in it may be written. */
const directoryTools: ReadonlySet<string> = new Set(['mkdir', 'upload']);

function inside(paths: readonly string[]): readonly string[] {
  return paths.flatMap((path) => inWorkspace(path) ?? []);
}

/** Relative to the workspace, as it is spelt; undefined when it is not in there. */
function inWorkspace(path: string): string | undefined {
  const absolute = posix.resolve('/workspace', path);
  if (absolute === '/workspace') return '';
  return absolute.startsWith('/workspace/') ? absolute.slice('/workspace/'.length) : undefined;
}

function scopeOf(globs: readonly string[] | undefined): Scope | undefined {
  return globs === undefined ? undefined : Scope.compile({ read: [], write: globs, scratch: [], deny: [] });
}

function shown(path: string): string {
  return JSON.stringify(path.length <= 200 ? path : `${path.slice(0, 200)}...`);
}

function listed(globs: readonly string[]): string {
  if (globs.length === 0) return 'nothing in the workspace';
  return globs.length <= 12 ? globs.join(', ') : `${globs.slice(0, 12).join(', ')}, ...`;
}
