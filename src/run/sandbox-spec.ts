import { sandboxLabels } from '../engine/labels.ts';
import { workspaceVolume, type Placement } from '../placement.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import type { SandboxLimits, SandboxSpec } from '../sandbox/container-body.ts';
import { letsOut } from '../fencing.ts';

/** A new sandbox, as a policy and the place of its workspace want it. */
export function sandboxSpec(of: {
  readonly image: string;
  readonly policy: LoadedPolicy;
  readonly placement: Placement;
  /** Of the data directory, and of this process. */
  readonly owner: string;
  readonly instance: string;
}): SandboxSpec {
  const { image, policy, placement, owner, instance } = of;
  const { runtime } = policy.policy;
  const id = placement.sandbox;
  return {
    id,
    image,
    runtime,
    workspaceRoot: placement.root,
    ...(placement.strategy === 'overlay' ? { workspaceVolume: workspaceVolume(id) } : {}),
    ...(placement.inputs.length === 0 ? {} : { inputs: placement.inputs }),
    ...(letsOut(policy.policy.egress) ? { egress: true } : {}),
    limits: sandboxLimits(policy),
    labels: sandboxLabels({ owner, instance, sandbox: id, created: new Date() }),
  };
}

export function sandboxLimits({ policy: { limits } }: LoadedPolicy): SandboxLimits {
  return {
    memoryBytes: limits.memoryBytes,
    pidsMax: limits.pidsMax,
    cpus: limits.cpus,
    openFilesMax: limits.openFilesMax,
    workspaceBytes: limits.workspaceBytes,
    workspaceInodes: limits.workspaceFilesMax,
    tmpBytes: limits.tmpBytes,
    homeBytes: limits.tmpBytes,
    shmBytes: Math.min(limits.tmpBytes, 64 * 1024 * 1024),
  };
}
