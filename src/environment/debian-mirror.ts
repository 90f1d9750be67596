import { clientFolder } from '../egress/image-trust.ts';
import { publicRegistries, type Registry } from '../registries/registries.ts';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

export interface AptFiles {
  /** For `sources.list`. */
  readonly sources: string;
  /** Lines for the configuration that `APT_CONFIG` names. */
  readonly configuration: string;
}

/**
 * By which apt of a Debian image asks the mirrors that setup may read instead of what its own sources name. Undefined where
 * these are Debian's own hosts, which the image's sources are for, or where the image is not Debian's: `osRelease` is its
 * /etc/os-release.
 */
export function findAptFiles(archives: readonly Registry[], osRelease: string): AptFiles | undefined {
  const isPublic = archives.every(({ url }) => publicRegistries.debian.some((known) => known.url === url));
  const [, id] = /^ID="?([a-z]+)"?$/m.exec(osRelease) ?? [];
  const [, suite] = /^VERSION_CODENAME="?([a-z]+)"?$/m.exec(osRelease) ?? [];
  if (isPublic || id !== 'debian' || suite === undefined) return undefined;
  const main = archives.find(({ url }) => !isSecurity(url));
  const security = archives.find(({ url }) => isSecurity(url));
  const lines = [
    ...(main === undefined ? [] : [`${main.url} ${suite}`, `${main.url} ${suite}-updates`]),
    ...(security === undefined ? [] : [`${security.url} ${suite}-security`]),
  ];
  return {
    sources: lines.map((line) => `deb [signed-by=${keyring}] ${line} main\n`).join(''),
    configuration: `Dir::Etc::sourcelist "${clientFolder}/sources.list";\nDir::Etc::sourceparts "-";\n`,
  };
}

function isSecurity(url: string): boolean {
  return url.endsWith('/debian-security/');
}
