import type { Policy } from '../policy/policy.ts';
import type { ExecSpec } from '../sandbox/spec.ts';
import { snapshotRepositoryEnvironment } from '../workspace/snapshot-repository.ts';

/**
 * The policy's limits hold whatever a call asks for. Of variables the later ones win: ours, the policy's, the call's, and those
 * that its command rules give to it.
 */
export function boundedSpec(
  { limits, env, files }: Policy,
  spec: ExecSpec,
  given: { readonly ours: Readonly<Record<string, string>>; readonly ruled: Readonly<Record<string, string>> },
): ExecSpec {
  const idleMs =
    limits.idleTimeoutMs === 0 ? spec.idleMs : Math.min(spec.idleMs ?? limits.idleTimeoutMs, limits.idleTimeoutMs);
  return {
    ...spec,
    env: {
      ...(files.git ? snapshotRepositoryEnvironment : {}),
      ...given.ours,
      ...env.set,
      ...spec.env,
      ...given.ruled,
    },
    killAfterMs: Math.min(spec.killAfterMs ?? limits.commandTimeoutMs, limits.commandTimeoutMs),
    ...(idleMs === undefined ? {} : { idleMs }),
    outputMaxBytes: Math.min(spec.outputMaxBytes ?? limits.outputPerCallBytes, limits.outputPerCallBytes),
  };
}
