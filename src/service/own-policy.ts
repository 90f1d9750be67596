import { digestPattern } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import type { Policy } from '../policy/policy.ts';
import { localKeyId, type Principal } from './principal.ts';
import type { WorkspaceRoots } from './workspace-roots.ts';

/**
 * A policy that came as text says what its sender may already: it names no directory that the sender could not name as a workspace,
 * and no secret and no image by digest of this machine, unless the sender owns that. Throws `forbidden`, `invalid_request`.
 */
export async function refuseHostNames(
  principal: Principal,
  { inputs, credentials, images }: Pick<Policy, 'inputs' | 'credentials' | 'images'>,
  roots: WorkspaceRoots,
): Promise<void> {
  for (const { source } of inputs) await roots.resolve(principal, source);
  if (principal.keyId === localKeyId) return;
  const image = images.find((name) => digestPattern.test(name));
  if (image !== undefined)
    throw new RunnerError(
      'forbidden',
      `image ${image}: a policy that is sent along names images that this machine accepts, by their names`,
    );
  const [credential] = Object.keys(credentials);
  if (credential === undefined) return;
  throw new RunnerError(
    'forbidden',
    `credential ${credential}: a policy that is sent along names no secrets of this machine; open the run with a policy of the service`,
  );
}
