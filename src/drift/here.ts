import { cpus, release } from 'node:os';
import type { EngineFacts } from '../engine/engine.ts';
import { environmentSections } from './environment-sections.ts';
import { fingerprintOf, sectionFrom, type Fingerprint } from './fingerprint.ts';
import { hostPlace } from './host-place.ts';
import { lookAtInstalled } from './installed.ts';
import { lookAtLockfiles } from './lockfiles.ts';
import { engineOf, pythonOf } from './take.ts';

/**
 * The same of this machine itself, for telling why something works here and not there. What only a sandbox has (its image, limits,
 * mounts, network, policy, base) is absent; values of variables are by digest.
 */
export async function fingerprintHere(
  directory: string,
  env: NodeJS.ProcessEnv,
  facts: EngineFacts | undefined,
): Promise<Fingerprint> {
  const path = (env['PATH'] ?? '').split(':').filter((one) => one.startsWith('/'));
  const installed = await lookAtInstalled(hostPlace, path);
  const { packages, system_files, tools, users } = installed;
  const variables = Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]));
  const model = cpus()[0]?.model;
  return fingerprintOf('host', new Date(), {
    packages,
    system_files,
    tools,
    users,
    ...environmentSections(variables, [], installed),
    kernel: sectionFrom({ release: release(), os: facts?.local === true ? facts.os : undefined }),
    ...(facts === undefined ? {} : { engine: engineOf(facts) }),
    cpu: sectionFrom({ architecture: facts?.architecture, cores: cpus().length, model }),
    lockfiles: await lookAtLockfiles(hostPlace, directory, async () => pythonOf(installed)),
  });
}
