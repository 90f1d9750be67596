import { RunnerError } from '../errors.ts';
import type { IntentInput } from '../policy/language/intent.ts';
import { refuseTask } from '../policy/decisions/refuse-task.ts';
import { recompile, type LoadedPolicy } from '../policy/policy.ts';
import { Scope } from '../workspace/scope/scope.ts';
import type { RunSnapshot } from './snapshot.ts';

/** What a fork is for, where that is not what its source is for. What narrows the source stays. */
export type ForkIntent = string | Pick<IntentInput, 'summary' | 'requirements' | 'constraints' | 'model'>;

export interface ForkTask {
  /** One of the policy's, in another lane maybe; default: that of the source. */
  readonly taskClass?: string | undefined;
  /** Without a model: the one that has worked in the source last. */
  readonly intent?: ForkIntent | undefined;
}

/**
 * The policy of a fork: that of its source, for its own task. Throws `invalid_request` for a class that there is not, or a model
 * that may not work in its lane.
 */
export function forkPolicy(
  source: Pick<RunSnapshot, 'policy' | 'worker'>,
  { taskClass, intent }: ForkTask,
): LoadedPolicy {
  const { policy, worker } = source;
  const said = typeof intent === 'string' ? { summary: intent } : intent;
  const before = policy.task.intent;
  const model = said?.model ?? worker?.model ?? before?.model;
  if (taskClass === undefined && said === undefined && model === before?.model) return policy;
  const task = {
    ...policy.task,
    ...(taskClass === undefined ? {} : { taskClass }),
    intent: { ...before, ...said, ...(model === undefined ? {} : { model }) },
  };
  const forked = recompile(policy, task);
  refuseTask(forked.policy, { summary: task.intent.summary, model });
  return forked;
}

/** Another class may see other files. Throws `policy_denied` where something would be inside that it is not to see. */
export function refuseUnseen({ run, base, changeSet, policy, image }: RunSnapshot, forked: LoadedPolicy): void {
  const refuse = (what: string): never => {
    const asked = `class ${forked.policy.taskClass ?? 'none'}`;
    throw new RunnerError(
      'policy_denied',
      `run ${run} cannot be forked for ${asked}: ${what}; open a run of that class`,
    );
  };
  const { images } = policy.policy;
  if (images.includes(image.reference) && !forked.policy.images.includes(image.reference))
    refuse(`it has image ${image.reference}, which that class may not use`);
  const scope = Scope.compile(forked.policy.files);
  if (scope.digest === Scope.compile(policy.policy.files).digest) return;
  for (const [path, node] of base.tree)
    if (node.kind !== 'directory' && !scope.imports(path)) refuse(`it has ${path}, which that class does not see`);
  for (const [path, { kind }] of changeSet.changes)
    if (kind !== 'deleted' && scope.classOf(path, kind === 'directory' ? kind : 'file') === 'absent')
      refuse(`it has made ${path}, which that class does not see`);
}
