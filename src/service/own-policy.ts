import { digestPattern } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import { privateReach } from './private-reach.ts';
import { localKeyId, type Principal } from './principal.ts';
import type { WorkspaceRoots } from './workspace-roots.ts';

/** What the machine of a service lets those do who are not its owner. */
export interface HostTerms {
  readonly roots: WorkspaceRoots;
  /** Destinations in its private network: ranges, `host:port`, `unix:/path` (`egress.sent_policies` of the configuration). */
  readonly destinations: readonly string[];
}

/**
 * A policy that came as text says what its sender may already: it names no directory that the sender could not name as a workspace,
 * and no secret, no image by digest and no destination in the private network of this machine, unless the sender owns that or its
 * operator offers the destination. Throws `forbidden`, `invalid_request`.
 */
export async function refuseHostNames(
  principal: Principal,
  { policy: { inputs, credentials, images }, chain }: Pick<LoadedPolicy, 'policy' | 'chain'>,
  { roots, destinations }: HostTerms,
): Promise<void> {
  for (const { source } of inputs) await roots.resolve(principal, source);
  if (principal.keyId === localKeyId) return;
  const image = images.find((name) => digestPattern.test(name));
  if (image !== undefined) refuse(`image ${image}`, 'images that this machine accepts, by their names, and no others');
  const [credential] = Object.keys(credentials);
  if (credential !== undefined)
    refuse(`credential ${credential}`, 'no secrets of this machine; open the run with a policy of the service');
  const [reached] = chain.flatMap(({ file }) => privateReach(file.egress, destinations));
  if (reached !== undefined)
    refuse(
      reached,
      "destinations in this machine's network, and its sockets, where its operator offers them alone (egress.sent_policies of the configuration); open the run with a policy of the service",
    );
}

function refuse(what: string, names: string): never {
  throw new RunnerError('forbidden', `${what}: a policy that is sent along names ${names}`);
}
