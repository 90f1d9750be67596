import { homedir } from 'node:os';
import { join } from 'node:path';
import { Deadline } from '../deadline.ts';
import { readAptSources, type AptSource } from './apt-sources.ts';
import type { Machine } from './configuration.ts';
import { npmRegistries } from './npm-config.ts';
import { pipRegistries } from './pip-config.ts';
import { publicRegistries, registryUrl, type Registries, type Registry } from './registries.ts';

const timeoutMs = 5000;

function thisMachine(): Machine {
  return { env: process.env, home: homedir(), root: '/', node: process.execPath };
}

/**
 * What npm, pip and apt of this machine are set up to use: their files and variables, of the user and of the machine, never
 * of a project, which belongs to whoever wrote that. Names and passwords are not taken, and no proxies. A file that is not
 * there says nothing; one that cannot be made sense of is `policy_unenforceable`.
 */
export async function machineRegistries(machine: Machine = thisMachine()): Promise<Registries> {
  return Deadline.run(
    timeoutMs,
    'the configuration of npm, pip and apt was to be read',
    async () => {
      const [npm, pypi, apt] = await Promise.all([
        npmRegistries(machine),
        pipRegistries(machine),
        readAptSources(join(machine.root, 'etc/apt')),
      ]);
      return {
        npm: npm.length === 0 ? publicRegistries.npm : npm,
        pypi: pypi.length === 0 ? publicRegistries.pypi : pypi,
        debian: debianRegistries(apt),
      };
    },
    'policy_unenforceable',
  );
}

/** Archives of Debian alone; where one of the two is not mirrored, the public one stands for it. */
function debianRegistries(sources: readonly AptSource[]): readonly Registry[] {
  const urls = [...new Set(sources.flatMap(({ uri }) => registryUrl(uri) ?? []))];
  const ofArchive = (archive: RegExp): readonly Registry[] => {
    const mirrors = urls.filter((url) => archive.test(url)).map((url) => ({ url }));
    return mirrors.length > 0 ? mirrors : publicRegistries.debian.filter(({ url }) => archive.test(url));
  };
  return [...ofArchive(/\/debian\/$/), ...ofArchive(/\/debian-security\/$/)];
}
