import { sectionOf, type Section } from './fingerprint.ts';
import { knownTools } from './known-tools.ts';
import { lineOf, type Place } from './place.ts';

/** What an image decides, or the installation of a machine: looked at as files, without running any of it. */
export interface Installed {
  readonly packages: Section;
  readonly system_files: Section;
  readonly tools: Section;
  readonly users: Section;
  /** Names in /usr/lib/locale, by commas. */
  readonly locales: string;
  /** Where /etc/localtime leads. */
  readonly localtime: string;
}

/** `path`: the directories of PATH. One look after the other: whoever works there goes first. */
export async function lookAtInstalled(place: Place, path: readonly string[]): Promise<Installed> {
  const system = await systemFiles(place);
  const found = await packages(place);
  return {
    packages: sectionOf(found),
    system_files: sectionOf(system),
    tools: sectionOf(await tools(place, path, found)),
    users: sectionOf(await users(place)),
    locales: (await place.list('/usr/lib/locale', { depthMax: 1, entriesMax: 256 })).map(nameOf).sort().join(','),
    localtime: system.get('/etc/localtime') ?? '',
  };
}

const systemRoots = ['/etc', '/usr/local', '/opt'];
/** What the engine writes into each container: its own, and not of the image. */
export const engineFiles: readonly string[] = ['/etc/hosts', '/etc/hostname', '/etc/resolv.conf'];
const systemFilesMax = 50_000;
const textMax = 16 * 1024 * 1024;

async function systemFiles(place: Place): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const root of systemRoots)
    for (const entry of await place.list(root, { entriesMax: systemFilesMax, digests: true }))
      if (!engineFiles.includes(entry.path)) found.set(entry.path, lineOf(entry));
  return found;
}

/** Of the system by their names; of npm and Python with that before the name. */
async function packages(place: Place): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  const dpkg = (await place.read('/var/lib/dpkg/status', textMax)) ?? '';
  for (const stanza of dpkg.split('\n\n')) {
    const { Package: name, Version: version, Architecture: architecture, Status: status } = fieldsOf(stanza);
    if (name === undefined || version === undefined || status !== 'install ok installed') continue;
    found.set(found.has(name) ? `${name}:${architecture ?? ''}` : name, version);
  }
  const apk = (await place.read('/lib/apk/db/installed', textMax)) ?? '';
  for (const stanza of apk.split('\n\n')) {
    const [, name] = /^P:(.*)$/m.exec(stanza) ?? [];
    const [, version] = /^V:(.*)$/m.exec(stanza) ?? [];
    if (name !== undefined && version !== undefined) found.set(name, version);
  }
  for (const [name, version] of await versionsInFiles(place)) found.set(name, version);
  for (const [name, version] of await npmPackages(place)) found.set(`npm:${name}`, version);
  for (const directory of await pythonDirectories(place))
    for (const [name, version] of await distributions(place, directory)) found.set(`python:${name}`, version);
  return found;
}

function fieldsOf(stanza: string): Readonly<Record<string, string | undefined>> {
  return Object.fromEntries(
    [...stanza.matchAll(/^([A-Z][A-Za-z-]*): (.*)$/gm)].map(([, name, value]) => [name, value]),
  );
}

const globalMax = 256;

/** Those that npm has installed for everybody. */
async function npmPackages(place: Place): Promise<readonly (readonly [string, string])[]> {
  const found: (readonly [string, string])[] = [];
  for (const root of ['/usr/local/lib/node_modules', '/usr/lib/node_modules', '/usr/share/nodejs']) {
    const names = (await place.list(root, { depthMax: 2, entriesMax: systemFilesMax }))
      .filter(({ path, type }) => type === 'directory' && /^\/[^/]+$|^\/@[^/]+\/[^/]+$/.test(path.slice(root.length)))
      .map(({ path }) => path.slice(root.length + 1))
      .filter((name) => !/^@[^/]+$/.test(name));
    for (const name of names.slice(0, globalMax)) {
      const version = versionIn(await place.read(`${root}/${name}/package.json`, textMax));
      if (version !== undefined) found.push([name, version]);
    }
  }
  return found;
}

function versionIn(manifest: string | undefined): string | undefined {
  try {
    const parsed: unknown = JSON.parse(manifest ?? 'null');
    const version = typeof parsed === 'object' && parsed !== null && 'version' in parsed ? parsed.version : undefined;
    return typeof version === 'string' ? version : undefined;
  } catch {
    return undefined; // some packages carry broken ones, for their own tests
  }
}

/** Of what came by no package manager: a header, or a file that says nothing else. */
const versionFiles: Readonly<Record<string, { readonly path: string; readonly patterns: readonly RegExp[] }>> = {
  'file:node': {
    path: '/usr/local/include/node/node_version.h',
    // One by one: a pattern of all three would take time by the cube of a file that somebody made for it.
    patterns: [/NODE_MAJOR_VERSION (\d+)/, /NODE_MINOR_VERSION (\d+)/, /NODE_PATCH_VERSION (\d+)/],
  },
  'file:go': { path: '/usr/local/go/VERSION', patterns: [/^go(\d+(?:\.\d+){1,2})/] },
};

async function versionsInFiles(place: Place): Promise<readonly (readonly [string, string])[]> {
  const found: (readonly [string, string])[] = [];
  for (const [name, { path, patterns }] of Object.entries(versionFiles)) {
    const text = (await place.read(path, 65_536)) ?? '';
    const numbers = patterns.flatMap((pattern) => pattern.exec(text)?.[1] ?? []);
    if (numbers.length === patterns.length) found.push([name, numbers.join('.')]);
  }
  for (const { path } of await place.list('/usr/local/include', { depthMax: 1, entriesMax: 256 })) {
    if (!/\/python3\.\d+$/.test(path)) continue;
    const [, version] = /PY_VERSION +"([^"]+)"/.exec((await place.read(`${path}/patchlevel.h`, 65_536)) ?? '') ?? [];
    if (version !== undefined) found.push(['file:python3', version]);
  }
  return found;
}

async function pythonDirectories(place: Place): Promise<readonly string[]> {
  const found = ['/usr/lib/python3/dist-packages'];
  for (const root of ['/usr/local/lib', '/usr/lib'])
    for (const entry of await place.list(root, { depthMax: 1, entriesMax: 4096 }))
      if (/^python3\.\d+$/.test(nameOf(entry)))
        found.push(`${entry.path}/site-packages`, `${entry.path}/dist-packages`);
  return found;
}

/** Installed Python packages of a directory, by their normalised names (PEP 503). */
export async function distributions(place: Place, directory: string): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const entry of await place.list(directory, { depthMax: 1, entriesMax: 20_000 })) {
    const [, name, version] = /^(.+?)-([^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info$/.exec(nameOf(entry)) ?? [];
    if (name !== undefined && version !== undefined) found.set(pythonName(name), version);
  }
  return found;
}

export function pythonName(name: string): string {
  return name.toLowerCase().replaceAll(/[-_.]+/g, '-');
}

const directoriesMax = 64;

/** The first of each name on PATH: its version where a package says one, its place, and what is in it. */
async function tools(
  place: Place,
  path: readonly string[],
  installed: ReadonlyMap<string, string>,
): Promise<ReadonlyMap<string, string>> {
  const places = new Map<string, string>();
  for (const directory of path.slice(0, directoriesMax))
    for (const entry of await place.list(directory, { depthMax: 1, entriesMax: 20_000 })) {
      const name = nameOf(entry);
      if (Object.hasOwn(knownTools, name) && !places.has(name) && entry.type !== 'directory')
        places.set(name, entry.path);
    }
  const found = new Map<string, string>();
  for (const [name, at] of places) {
    const by = knownTools[name]?.filter((one) => at.startsWith('/usr/local/') || !one.startsWith('file:')) ?? [];
    const version = by.map((one) => installed.get(one)).find((one) => one !== undefined);
    found.set(name, `${version ?? '-'} ${at} ${(await place.digest(at)) ?? 'unreadable'}`);
  }
  return found;
}

async function users(place: Place): Promise<ReadonlyMap<string, string>> {
  const rows = async (file: string): Promise<readonly (readonly string[])[]> =>
    ((await place.read(file, 1024 * 1024)) ?? '')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split(':'));
  const found = new Map<string, string>();
  for (const [name = '', , uid = '', gid = '', , home = '', shell = ''] of await rows('/etc/passwd'))
    found.set(name, `${uid}:${gid} ${home} ${shell}`);
  for (const [name = '', , gid = '', members = ''] of await rows('/etc/group'))
    found.set(`group ${name}`, members === '' ? gid : `${gid} ${members}`);
  return found;
}

function nameOf({ path }: { readonly path: string }): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
