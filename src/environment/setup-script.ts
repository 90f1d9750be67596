import { dirname } from 'node:path';
import type { Readable } from 'node:stream';
import { pack } from 'tar-stream';
import { clientFolder, keptBundle, systemBundle } from '../egress/image-trust.ts';
import type { BlobStore } from '../workspace/blobs.ts';
import { ancestorsOf } from '../workspace/diff.ts';
import type { SetupFile, Wanted } from './environment.ts';

/** Where what setup leaves in /workspace is kept in the image; a run's workspace is mounted over it there. */
export const resultsDir = '/opt/glovebox/workspace';
export const setupArgv: readonly string[] = ['/bin/sh', '/glovebox-setup/run.sh'];

/**
 * How setup gets at registries from this machine: a proxy, a mirror, the certificates of a network that opens TLS. Of setup
 * alone: no run sees it, and the certificates are taken out of the image. It does not change what an environment is called.
 */
export interface SetupAccess {
  readonly env: Readonly<Record<string, string>>;
  /** All certificates that are to be trusted, PEM. */
  readonly ca?: Uint8Array;
}

/** Of the policy's way out, where it has one; what the operator gives counts before it. */
export interface SetupWay {
  readonly env: Readonly<Record<string, string>>;
  readonly files: readonly LaidFile[];
}

/** Root's, for everybody to read, there while setup runs. */
export interface LaidFile {
  /** Below `/run/glovebox`. */
  readonly path: string;
  readonly text: string;
}

export function setupEnvironment(access?: SetupAccess, way?: SetupWay): readonly string[] {
  const certificates =
    access?.ca === undefined ? {} : Object.fromEntries(caVariables.map((name) => [name, `/${caFile}`]));
  const all = { ...ownEnvironment, ...way?.env, ...certificates, ...access?.env };
  return Object.entries(all).map(([name, value]) => `${name}=${value}`);
}

const laidFolder = clientFolder.slice(1);
const caFile = 'glovebox-setup/ca.crt';
const caVariables = [
  'SSL_CERT_FILE',
  'NODE_EXTRA_CA_CERTS',
  'NPM_CONFIG_CAFILE',
  'PIP_CERT',
  'REQUESTS_CA_BUNDLE',
  'CURL_CA_BUNDLE',
  'GIT_SSL_CAINFO',
];

const ownEnvironment: Readonly<Record<string, string>> = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  LANG: 'C.UTF-8',
  LC_ALL: 'C.UTF-8',
  TZ: 'UTC',
  CI: '1',
  DEBIAN_FRONTEND: 'noninteractive',
  PIP_NO_INPUT: '1',
  PIP_ROOT_USER_ACTION: 'ignore',
  PIP_BREAK_SYSTEM_PACKAGES: '1',
  PIP_DISABLE_PIP_VERSION_CHECK: '1',
  NPM_CONFIG_UPDATE_NOTIFIER: 'false',
  NPM_CONFIG_PROGRESS: 'false',
  PYTHONHASHSEED: '0',
};

/** The script, and the files in /workspace: root's, so that setup reads them and leaves them as they are. */
export function setupFiles(wanted: Wanted, blobs: BlobStore, access?: SetupAccess, way?: SetupWay): Readable {
  const tar = pack();
  const own = { uid: 0, gid: 0, mtime: new Date(0) };
  const fill = async (): Promise<void> => {
    tar.entry({ ...own, name: 'glovebox-setup/', type: 'directory', mode: 0o755 });
    tar.entry({ ...own, name: 'glovebox-setup/run.sh', mode: 0o755 }, scriptOf(wanted));
    if (access?.ca !== undefined) tar.entry({ ...own, name: caFile, mode: 0o644 }, Buffer.from(access.ca));
    if (way !== undefined && way.files.length > 0)
      tar.entry({ ...own, name: `${laidFolder}/`, type: 'directory', mode: 0o755 });
    for (const { path, text } of way?.files ?? [])
      tar.entry({ ...own, name: path.slice(1), mode: 0o644 }, Buffer.from(text, 'latin1'));
    const directories = new Set(wanted.files.flatMap(({ path }) => ancestorsOf(path)));
    for (const path of [...directories].sort())
      tar.entry({ ...own, name: `workspace/${path}/`, type: 'directory', mode: 0o755 });
    for (const { path, mode, digest } of wanted.files)
      tar.entry({ ...own, name: `workspace/${path}`, mode }, await blobs.get(digest));
    tar.finalize();
  };
  fill().catch((error: Error) => tar.destroy(error));
  return tar as unknown as Readable;
}

/** What must not be in an image is taken out in the end: logs, caches, package lists, set-id bits, the files themselves. */
export function scriptOf({ spec, files }: Pick<Wanted, 'spec' | 'files'>): string {
  const commands = spec.setup.flatMap((argv) => {
    const line = argv.map(quoted).join(' ');
    return [`printf '%s\\n' ${quoted(`+ ${argv.join(' ')}`)}`, line];
  });
  return `{
set -e
exec 2>&1 </dev/null
umask 022
${ownTrust}
cd /workspace
${commands.join('\n')}
cd /
${files.map(fileRemoval).join('\n')}
find /workspace -mindepth 1 -type d -empty -delete
rm -rf ${resultsDir}
mkdir -p ${resultsDir}
find /workspace -mindepth 1 -maxdepth 1 -exec mv -t ${resultsDir} -- {} +
chown -R 0:0 ${resultsDir}
chmod -R a+rX,go-w ${resultsDir}
rm -rf /root/.cache /root/.npm /var/tmp/* /glovebox-setup ${clientFolder}
${linkedTrust}
for place in /var/log /var/cache/apt /var/lib/apt/lists; do [ ! -d $place ] || find $place -type f -delete; done
find / -xdev -type f -perm /6000 -exec chmod ug-s {} +
exit 0
}
`;
}

const linkBundle = `mkdir -p ${dirname(keptBundle)}; mv -f ${systemBundle} ${keptBundle}; ln -s ${clientFolder}/ca.pem ${systemBundle}`;

/** What the base image trusts is in its usual place again; and where there is a fence, programs find its authority there. */
const ownTrust = `if [ -f ${keptBundle} ]; then mv -f ${keptBundle} ${systemBundle}; fi
if [ -f ${clientFolder}/ca.pem ] && [ -f ${systemBundle} ]; then ${linkBundle}; fi`;

/**
 * A run's own authority is to be found through the system's bundle too: what the image trusts is kept beside, and the bundle is
 * a link to where each sandbox has what it trusts. Elsewhere it leads to the image's own.
 */
const linkedTrust = `if [ -f ${systemBundle} ] && [ ! -L ${systemBundle} ]; then ${linkBundle}; fi
if [ -f ${keptBundle} ]; then mkdir -p ${clientFolder}; ln -s ${keptBundle} ${clientFolder}/ca.pem; fi`;

function fileRemoval({ path }: SetupFile): string {
  return `rm -f -- ${quoted(`/workspace/${path}`)}`;
}

/** One word of a POSIX shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
