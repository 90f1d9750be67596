import type { PlacementRequest, Placements } from '../placement.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import type { RunImage } from './snapshot.ts';
import type { ImportOptions } from '../workspace/base/import.ts';
import type { Scope } from '../workspace/scope/scope.ts';
import { nothing, type Selection } from '../workspace/base/select.ts';

interface Progress {
  readonly onProgress?: (line: string) => void;
  readonly signal?: AbortSignal;
}

/** What a run asks of its workspace. */
export function placementFor(
  of: Pick<PlacementRequest, 'runId' | 'sandbox'>,
  { policy }: LoadedPolicy,
  scope: Scope,
  image: RunImage,
  request: Progress & { readonly scratch?: boolean },
): PlacementRequest {
  const bound = { bytes: policy.limits.workspaceBytes, inodes: policy.limits.workspaceFilesMax };
  const { runtime, inputs, files } = policy;
  const [options, withResults] = [importOptions(request), request.scratch !== true];
  return { ...of, scope, runtime, bound, image: image.id, withResults, options, inputs, deny: files.deny };
}

/** A large import says how far it is, now and then. */
function importOptions({ onProgress, signal }: Progress): ImportOptions {
  let toldMs = performance.now();
  return {
    ...(signal === undefined ? {} : { signal }),
    onProgress: ({ files, filesTotal, bytes }) => {
      if (performance.now() - toldMs < progressEveryMs) return;
      toldMs = performance.now();
      onProgress?.(`workspace: ${files} of ${filesTotal} files, ${Math.ceil(bytes / 1024)} KiB`);
    },
  };
}

const progressEveryMs = 1000;

/** The files of the host that the policy lets in. */
export async function select(
  request: Progress & { readonly policy: LoadedPolicy; readonly workspace?: string },
  scope: Scope,
  placements: Placements,
): Promise<Selection> {
  if (request.workspace === undefined) return nothing;
  return placements.select(request.workspace, scope, {
    includeIgnored: request.policy.policy.files.includeIgnored ? ['**'] : [],
    ...(request.signal === undefined ? {} : { signal: request.signal }),
  });
}

/** What a person may miss inside; what was denied or ignored on purpose counts too. */
export function leftOutText({ leftOut }: Selection): string {
  const counts = Object.entries(leftOut.counts).map(([reason, count]) => `${count} ${reason.replaceAll('_', ' ')}`);
  return counts.length === 0 ? '' : `; left out: ${counts.join(', ')}`;
}
