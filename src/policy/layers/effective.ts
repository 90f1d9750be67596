import { canonicalJson, digestOf } from '../../digest.ts';
import { RunnerError } from '../../errors.ts';
import { publicRegistries, type Registries } from '../../registries/registries.ts';
import { credentialsOf, egressOf, type EgressBounds } from './egress-layers.ts';
import { workspaceScope } from './file-rules.ts';
import { riskLevels, type RiskLevel } from '../language/fields.ts';
import type { Intent } from '../language/intent.ts';
import type { Escalator, When } from '../language/rules.ts';
import type { Held } from './held.ts';
import { meet, type Meet } from './meet.ts';
import { contextOf } from './effective-context.ts';
import { driftOf } from './effective-drift.ts';
import { replayOf } from './effective-replay.ts';
import { verifyOf } from './effective-verify.ts';
import type { Effective, Policy } from './effective-policy.ts';
import { fileLayer, laneOf, restrictionsOf, type Task } from './restriction.ts';
import type { PolicyFile } from '../language/schema.ts';
import type { SourceFile } from '../language/source-file.ts';

/** So long is the longest effective policy: it goes into the journal whole. */
const canonicalBytesMax = 200_000;

/**
 * Everything that holds for a task under these files, the widest first. Throws `invalid_policy` where a layer widens or
 * something needed is said by none, `invalid_request` where the task names what there is not.
 */
export function effectivePolicy(
  chain: readonly SourceFile[],
  task: Task,
  registries: Registries = publicRegistries,
): Effective {
  const found = chain.at(-1);
  if (found === undefined) throw new RunnerError('internal', 'a policy without a file was to be compiled');
  refuseUnknownClass(chain, task);
  const risk = riskOf(chain, task);
  const met = meet(restrictionsOf(chain, task, risk), classesOf(chain).length > 0);
  if (met.problems.length > 0) throw new RunnerError('invalid_policy', met.problems.slice(0, 10).join('\n'));
  const policy = policyOf(chain, found, { task, risk, met, registries });
  const canonical = canonicalJson(policy);
  if (Buffer.byteLength(canonical) > canonicalBytesMax)
    throw new RunnerError(
      'invalid_policy',
      `${found.source}: with all layers it is longer than ${canonicalBytesMax} bytes`,
    );
  return { policy, canonical, digest: digestOf(canonical), decidedBy: decided(met) };
}

/** Of class and intent: the risk at which a run opens. */
function riskOf(chain: readonly SourceFile[], { taskClass, intent, risk }: Task): RiskLevel {
  const classRisks = chain.map(({ file }) => (taskClass === undefined ? undefined : file.classes?.[taskClass]?.risk));
  const escalated = escalatorsOf(chain)
    .filter(({ when }) => firesForIntent(when, intent))
    .map(({ to }) => to);
  return highestRisk([...classRisks, ...escalated, risk]);
}

export function highestRisk(risks: readonly (RiskLevel | undefined)[]): RiskLevel {
  const orders = risks.map((risk) => (risk === undefined ? 0 : riskLevels.indexOf(risk)));
  return riskLevels[Math.max(0, ...orders)] ?? 'critical';
}

function firesForIntent(when: When, intent: Intent | undefined): boolean {
  const source = intent?.source ?? 'person';
  return (
    when.request_source?.includes(source) === true ||
    (intent?.risk_tags ?? []).some((tag) => when.risk_tag?.includes(tag) === true)
  );
}

function categoriesForIntent(chain: readonly SourceFile[], intent: Intent | undefined): readonly string[] {
  const triggers = chain.flatMap(({ file }) => file.approvals?.triggers ?? []);
  return triggers.filter(({ when }) => firesForIntent(when, intent)).map(({ category }) => category);
}

interface Compiling {
  readonly task: Task;
  readonly risk: RiskLevel;
  readonly met: Meet;
  readonly registries: Registries;
}

function policyOf(chain: readonly SourceFile[], found: SourceFile, compiling: Compiling): Policy {
  const { task, risk, met, registries } = compiling;
  const { file } = found;
  const lane = laneOf(chain, task.taskClass);
  const number = (key: string): number => met.numbers.get(key)?.value ?? 0;
  const profiles = met.lists.get('egress')?.value ?? [];
  const bounds = egressBounds(met);
  const egress = egressOf(chain, profiles, bounds, registries);
  const environment = environmentOf(chain, bounds, registries);
  return {
    apiVersion: file.apiVersion,
    kind: file.kind,
    name: file.name,
    description: file.description ?? '',
    layers: chain.map((_, index) => fileLayer(chain, index)),
    taskClass: task.taskClass ?? null,
    lane: lane ?? null,
    risk,
    images: met.lists.get('images')?.value ?? [],
    runtime: met.runtime.value,
    files: {
      ...workspaceScope(met.files.layers),
      includeIgnored: met.flags.get('files.include_ignored')?.value ?? false,
      git: met.flags.get('files.git')?.value ?? false,
    },
    paths: met.files.layers,
    inputs: inputsOf(chain),
    ...(environment === undefined ? {} : { environment }),
    limits: {
      memoryBytes: number('limits.memory'),
      cpus: number('limits.cpus'),
      pidsMax: number('limits.pids'),
      openFilesMax: number('limits.open_files'),
      workspaceBytes: number('limits.workspace'),
      workspaceFilesMax: number('limits.workspace_files'),
      tmpBytes: number('limits.tmp'),
      wallClockMs: number('limits.wall_clock'),
      commandTimeoutMs: number('limits.command_timeout'),
      idleTimeoutMs: number('limits.idle_timeout'),
      outputPerCallBytes: number('limits.output_per_call'),
      replyBytes: number('limits.reply_bytes'),
      outputPerRunBytes: number('limits.output_per_run'),
    },
    budget: {
      maxActionsPerRun: number('budget.max_actions_per_run'),
      maxActionsByTag: tagsOf(met),
      maxDeniedActions: number('budget.max_denied_actions'),
      maxConsecutiveDenials: number('budget.max_consecutive_denials'),
      maxApprovalRequests: number('budget.max_approval_requests'),
      maxParallelActions: number('budget.max_parallel_actions'),
      maxActionsPerMinute: number('budget.max_actions_per_minute'),
      cpuSeconds: number('budget.cpu_seconds'),
      diffFiles: number('budget.diff_files'),
      diffLines: number('budget.diff_lines'),
      diffBinaryBytes: number('budget.diff_binary'),
    },
    tools: { allow: met.lists.get('tools.allow')?.value ?? [] },
    env: {
      set: Object.assign({}, ...chain.map((one) => one.file.env?.set ?? {}).toReversed()) as Record<string, string>,
    },
    commands: chain.flatMap((one, index) =>
      one.file.commands === undefined ? [] : [{ layer: fileLayer(chain, index), rules: one.file.commands }],
    ),
    escalators: escalatorsOf(chain),
    approvals: {
      categories: categoriesOf(chain),
      triggers: chain.flatMap(({ file }) => file.approvals?.triggers ?? []),
      everyExport: [...new Set([...met.approvals.keys(), ...categoriesForIntent(chain, task.intent)])],
    },
    egress,
    credentials: credentialsOf(chain, [...egress.rules, ...(environment?.egress?.rules ?? [])]),
    ...laneRules(chain, lane),
    ...contextOf(chain),
    ...verifyOf(chain, task.taskClass),
    ...promotionOf(chain),
    ...driftOf(chain),
    ...replayOf(chain),
    retention: retentionOf(chain),
  };
}

function refuseUnknownClass(chain: readonly SourceFile[], { taskClass }: Task): void {
  const classes = classesOf(chain);
  const found = chain.at(-1);
  if (taskClass !== undefined && !classes.includes(taskClass)) {
    const there = classes.length === 0 ? 'it has no classes' : `there are: ${classes.join(', ')}`;
    throw new RunnerError('invalid_request', `${found?.source}: no task class ${JSON.stringify(taskClass)}; ${there}`);
  }
  if (taskClass === undefined && classes.length > 0)
    throw new RunnerError(
      'invalid_request',
      `${found?.source}: the policy has task classes; name one of ${classes.join(', ')} (--class)`,
    );
}

/** Of all files, in the order in which they are first named. */
export function classesOf(chain: readonly SourceFile[]): readonly string[] {
  return [...new Set(chain.flatMap(({ file }) => Object.keys(file.classes ?? {})))];
}

/** What a run cannot do without. A file that is only there to be extended may leave it out. */
export function refuseIncomplete(chain: readonly SourceFile[], policy: Policy): void {
  const found = chain.at(-1);
  if (found === undefined) return;
  const { source, placeOf, file } = found;
  const missing = (key: string): never => {
    throw new RunnerError('invalid_policy', `${placeOf(key.split('.'))}: ${key}: is missing`);
  };
  if (policy.images.length === 0) missing('images');
  if (!chain.some((one) => saysRead(one, policy.taskClass))) missing('files.read');
  const { environment } = policy;
  if (environment !== undefined && !policy.images.includes(environment.image)) {
    const known = `is not one of images (${policy.images.join(', ')})`;
    const place = placeOf(['environment', 'image']);
    throw new RunnerError(
      'invalid_policy',
      `${place}: environment.image: ${JSON.stringify(environment.image)} ${known}`,
    );
  }
  const named = policy.images.find((image) => !/(^|@)sha256:[0-9a-f]{64}$/.test(image));
  if (named !== undefined && chain.some((one) => one.file.require_image_digest === true)) {
    const where = file.images === undefined ? source : placeOf(['images']);
    throw new RunnerError(
      'invalid_policy',
      `${where}: images: ${JSON.stringify(named)} is a name, and require_image_digest asks for digests (sha256:...)`,
    );
  }
}

function saysRead({ file }: SourceFile, taskClass: string | null): boolean {
  const ofClass = taskClass === null ? undefined : file.classes?.[taskClass]?.files;
  return file.files?.read !== undefined || ofClass?.read !== undefined;
}

function environmentOf(
  chain: readonly SourceFile[],
  bounds: EgressBounds,
  registries: Registries,
): Policy['environment'] {
  const environment = chain.map(({ file }) => file.environment).find((one) => one !== undefined);
  if (environment === undefined) return undefined;
  const { image, setup, files = [], egress = [] } = environment;
  const reach = egress.length === 0 ? {} : { egress: egressOf(chain, egress, bounds, registries) };
  return { image, setup, files, ...reach };
}

function egressBounds({ numbers, words }: Meet): EgressBounds {
  const number = (key: string): number => numbers.get(`egress.${key}`)?.value ?? 0;
  return {
    mode: words.get('egress.mode')?.value === 'observe' ? 'observe' : 'enforce',
    dns: {
      maxNames: number('dns.max_names'),
      maxUnlisted: number('dns.max_unlisted'),
      onExcess: words.get('egress.dns.on_excess')?.value === 'deny' ? 'deny' : 'stop_run',
    },
    maxConnections: number('max_connections'),
  };
}

/** Those of the lowest file that names any; the files above have to name them too, where they name any. */
function inputsOf(chain: readonly SourceFile[]): Policy['inputs'] {
  const said = chain.flatMap(({ file }) => (file.inputs === undefined ? [] : [file.inputs]));
  return (said.at(-1) ?? []).filter((input) => said.every((list) => list.some((other) => isSameInput(input, other))));
}

export function isSameInput(a: Policy['inputs'][number], b: Policy['inputs'][number]): boolean {
  return a.source === b.source && a.target === b.target;
}

function tagsOf(met: Meet): Readonly<Record<string, number>> {
  const prefix = 'budget.max_actions_by_tag.';
  const tags = [...met.numbers].filter(([key]) => key.startsWith(prefix));
  return Object.fromEntries(tags.map(([key, { value }]) => [key.slice(prefix.length), value]));
}

function escalatorsOf(chain: readonly SourceFile[]): readonly Escalator[] {
  return chain.flatMap(({ file }) => file.risk?.escalators ?? []);
}

/** Of several layers, the strictest of each. */
function categoriesOf(chain: readonly SourceFile[]): Policy['approvals']['categories'] {
  const categories: Record<string, Policy['approvals']['categories'][string]> = {};
  for (const { file } of chain) {
    for (const [name, says] of Object.entries(file.approvals?.categories ?? {})) {
      const above = categories[name];
      const note = says.note ?? above?.note;
      categories[name] = {
        effect: says.effect === 'deny' || above?.effect === 'deny' ? 'deny' : 'ask',
        quorum: Math.max(says.quorum ?? 1, above?.quorum ?? 1),
        timeoutMs: Math.min(says.timeout ?? approvalTimeoutMs, above?.timeoutMs ?? Number.POSITIVE_INFINITY),
        remember: says.remember === 'run' && above?.remember !== 'none' ? 'run' : 'none',
        reasonRequired: says.reason_required === true || above?.reasonRequired === true,
        ...(note === undefined ? {} : { note }),
      };
    }
  }
  return categories;
}

export const approvalTimeoutMs = 1_800_000;

function laneRules(
  chain: readonly SourceFile[],
  lane: string | undefined,
): Pick<Policy, 'models' | 'requireIntent'> & Partial<Pick<Policy, 'handOver'>> {
  const says = chain.flatMap(({ file }) => (lane === undefined ? [] : [file.lanes?.[lane] ?? {}]));
  const models = says.find((one) => one.models !== undefined)?.models ?? [];
  const handOver = says.findLast((one) => one.hand_over !== undefined)?.hand_over;
  return {
    models,
    requireIntent: says.some((one) => one.require_intent === true),
    ...(handOver === undefined ? {} : { handOver: { to: handOver.to, actionsUsed: handOver.actions_used } }),
  };
}

function promotionOf(chain: readonly SourceFile[]): Pick<Policy, 'promotion'> {
  const layers = chain.flatMap(({ file }, index) => {
    const { rules = [], tighten_when: tightenWhen, reviewers } = file.promotion ?? {};
    if (rules.length === 0 && tightenWhen === undefined && reviewers === undefined) return [];
    const layer = fileLayer(chain, index);
    const more = {
      ...(tightenWhen === undefined ? {} : { tightenWhen }),
      ...(reviewers === undefined ? {} : { reviewers }),
    };
    return [{ layer, rules, ...more }];
  });
  return layers.length === 0 ? {} : { promotion: layers };
}

/** The shortest of all that are said. */
function retentionOf(chain: readonly SourceFile[]): Policy['retention'] {
  const least = (key: keyof NonNullable<PolicyFile['retention']>, standardMs: number): number => {
    const said = chain.flatMap(({ file }) => file.retention?.[key] ?? []);
    return said.length === 0 ? standardMs : Math.min(...said);
  };
  return {
    journalMs: least('journal', 400 * dayMs),
    outputMs: least('output', 30 * dayMs),
    diffMs: least('diff', 90 * dayMs),
  };
}

const dayMs = 86_400_000;

function decided(met: Meet): ReadonlyMap<string, Held<unknown>> {
  return new Map<string, Held<unknown>>([
    ...met.lists,
    ['runtime', met.runtime],
    ...[...met.files.decidedBy].map(([list, held]) => [`files.${list}`, held] as const),
    ...met.flags,
    ...met.words,
    ...met.numbers,
    ...[...met.approvals].map(([name, held]) => [`approvals.${name}`, held] as const),
  ]);
}
