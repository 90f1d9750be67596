import { RunnerError } from '../../errors.ts';
import type { EngineFacts } from '../engine.ts';

/**
 * Refuses an engine that cannot hold what every sandbox asks for. Asked before anything is made there: an engine may take
 * a limit, show it when it is asked again, warn of nothing, and not set it (rootless Docker without control groups).
 */
export function refuseUnfit(facts: EngineFacts, what: string, alsoMissing: readonly string[] = []): void {
  const { enforces } = facts;
  const missing = [...alsoMissing, ...facts.lacks];
  if (!enforces.memory) missing.push('a memory limit');
  if (!enforces.swap) missing.push('a limit on swap');
  if (!enforces.pids) missing.push('a limit on processes');
  if (!enforces.cpu) missing.push('a limit on processor time');
  if (!enforces.seccomp) missing.push('a seccomp profile');
  if (missing.length === 0) return;
  throw new RunnerError(
    'policy_unenforceable',
    `${what} asks for what the engine at ${facts.endpoint} (${facts.kind} ${facts.version}) cannot enforce: ` +
      `${missing.join(', ')}. \`glovebox doctor\` says how to get it.`,
  );
}

/**
 * What Podman does with a request to Docker's API that asks for a sandbox: read in containers that 4.3.1 ran. The options
 * of a tmpfs are refused by the sources of version 6 too.
 */
export const podmanLacks: readonly string[] = [
  "an environment without the image's and the engine's own variables",
  'a tmpfs with an owner and a bounded number of files',
  'a read-only root (it adds a writable /run, /tmp and /var/tmp without a size)',
  'masked paths of /proc and /sys',
  'a seccomp profile that comes with the request',
];
