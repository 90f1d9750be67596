import { sandboxLabels } from '../engine/labels.ts';
import { newId } from '../ids.ts';
import type { Placement } from '../placement.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import type { SandboxSpec } from '../sandbox/container-body.ts';
import { letsOut } from '../fencing.ts';

/** A new sandbox for a run, as its policy and the place of its workspace want it. */
export function sandboxSpec(of: {
  readonly runId: string;
  readonly image: string;
  readonly policy: LoadedPolicy;
  readonly placement: Placement;
  /** Of the data directory, and of this process. */
  readonly owner: string;
  readonly instance: string;
}): SandboxSpec {
  const { runId, image, policy, placement, owner, instance } = of;
  const { limits, runtime } = policy.policy;
  const id = newId();
  return {
    id,
    runId,
    image,
    runtime,
    workspaceRoot: placement.root,
    ...(placement.volume === undefined ? {} : { workspaceVolume: placement.volume }),
    ...(placement.inputs.length === 0 ? {} : { inputs: placement.inputs }),
    ...(letsOut(policy.policy.egress) ? { egress: true } : {}),
    limits: {
      memoryBytes: limits.memoryBytes,
      pidsMax: limits.pidsMax,
      cpus: limits.cpus,
      openFilesMax: limits.openFilesMax,
      workspaceBytes: limits.workspaceBytes,
      workspaceInodes: limits.workspaceFilesMax,
      tmpBytes: limits.tmpBytes,
      homeBytes: limits.tmpBytes,
      shmBytes: Math.min(limits.tmpBytes, 64 * 1024 * 1024),
    },
    labels: sandboxLabels({ owner, instance, run: runId, sandbox: id, created: new Date(), policy: policy.digest }),
  };
}
