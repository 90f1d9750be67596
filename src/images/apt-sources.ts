import { readAptSources, type AptSource } from '../registries/apt-sources.ts';

export const debianKeyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/**
 * The mirrors this machine's apt already uses for Debian `suite`, as one-line sources; Debian's own where it uses none.
 * Whatever the mirror, only Debian's archive key is accepted, so a third party's repository cannot slip in.
 */
export async function debianSources(suite: string, aptDir: string = '/etc/apt'): Promise<string> {
  const configured = (await readAptSources(aptDir)).filter((source) => isDebian(source, suite));
  const complete = [suite, `${suite}-security`].every((name) => configured.some((source) => source.suite === name));
  const sources = complete ? configured : defaultSources(suite);
  const lines = sources.map(({ uri, suite: name }) => `deb [signed-by=${debianKeyring}] ${uri} ${name} main`);
  return `${[...new Set(lines)].sort().join('\n')}\n`;
}

function defaultSources(suite: string): readonly AptSource[] {
  const uri = 'http://deb.debian.org/debian';
  return [
    { uri, suite },
    { uri, suite: `${suite}-updates` },
    { uri: `${uri}-security`, suite: `${suite}-security` },
  ];
}

function isDebian({ uri, suite }: AptSource, wanted: string): boolean {
  const path = suite === `${wanted}-security` ? /\/debian-security(\.list)?\/?$/ : /\/debian(\.list)?\/?$/;
  return [wanted, `${wanted}-updates`, `${wanted}-security`].includes(suite) && path.test(uri);
}
