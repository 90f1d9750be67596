import { digestOf } from '../digest.ts';
import { sectionOf, type Section } from './fingerprint.ts';
import { distributions, pythonName } from './installed.ts';
import type { Listed, Place } from './place.ts';

const directoriesMax = 32;
const entriesMax = 4096;
/** Of all that is read for one look: whoever works there writes them, and parsing holds up everybody. */
const readBytesMax = 16 * 1024 * 1024;
const locksMax = 16;
const toldMax = 5;

/** What a lockfile wants, or what is there: versions by package. */
type Versions = ReadonlyMap<string, string>;

/**
 * Lockfiles in a workspace and in the directories right in it, against what is installed beside them: `in_step`, `not_installed`,
 * or the first packages that are another version. What a lockfile has for other machines, or leaves to choice, is not missed.
 * `system`: Python packages of the image, where there is no environment beside the lockfile.
 */
export async function lookAtLockfiles(
  place: Place,
  workspace: string,
  system: () => Promise<Versions>,
): Promise<Section> {
  const found = new Map<string, string>();
  const locks = (await lockfiles(place, workspace)).slice(0, locksMax);
  let leftBytes = readBytesMax;
  const readText = async (path: string): Promise<string | undefined> => {
    const text = await place.read(path, leftBytes);
    leftBytes -= Buffer.byteLength(text ?? '');
    return text;
  };
  for (const { directory, name, read } of locks) {
    const text = await readText(`${directory}/${name}`);
    if (text === undefined) continue;
    const shown = `${directory}/${name}`.slice(workspace.length + 1);
    found.set(`${shown} sha256`, digestOf(text));
    found.set(shown, await read(text, { place, readText, directory, system }));
  }
  return sectionOf(found);
}

interface Beside {
  readonly place: Place;
  /** Undefined too where more was read than is read of all. */
  readonly readText: (path: string) => Promise<string | undefined>;
  readonly directory: string;
  readonly system: () => Promise<Versions>;
}

type Read = (text: string, beside: Beside) => Promise<string>;

interface Lockfile {
  readonly directory: string;
  readonly name: string;
  readonly read: Read;
}

async function lockfiles(place: Place, workspace: string): Promise<readonly Lockfile[]> {
  const top = await place.list(workspace, { depthMax: 1, entriesMax });
  const found = [...lockfilesIn(top, workspace)];
  const below = top.filter(
    ({ path, type }) => type === 'directory' && !/^(?:\.|node_modules$|venv$)/.test(nameOf(path)),
  );
  for (const { path } of below.slice(0, directoriesMax))
    found.push(...lockfilesIn(await place.list(path, { depthMax: 1, entriesMax }), path));
  return found;
}

function lockfilesIn(entries: readonly Listed[], directory: string): readonly Lockfile[] {
  return entries.flatMap(({ path, type }) => {
    const name = nameOf(path);
    const read = type === 'file' ? readerOf(name) : undefined;
    return read === undefined ? [] : [{ directory, name, read }];
  });
}

function readerOf(name: string): Read | undefined {
  if (name === 'package-lock.json' || name === 'npm-shrinkwrap.json') return npm;
  if (name === 'pnpm-lock.yaml') return pnpm;
  if (name === 'uv.lock' || name === 'poetry.lock') return python(lockedPackages);
  if (/^requirements[\w.-]*\.txt$/.test(name)) return python(pinnedRequirements);
  return undefined;
}

/** npm writes what it has installed into a lockfile of its own. */
const npm: Read = async (text, { readText, directory }) => {
  const locked = npmPackages(text);
  const written = await readText(`${directory}/node_modules/.package-lock.json`);
  if (locked === undefined) return 'unreadable';
  const installed = written === undefined ? undefined : npmPackages(written);
  if (installed === undefined) return 'not_installed';
  return told(locked.versions, installed.versions, locked.optional);
};

interface Locked {
  readonly versions: Versions;
  /** May be missing: of another machine, of development, or there if somebody else brings it. */
  readonly optional: ReadonlySet<string>;
}

function npmPackages(text: string): Locked | undefined {
  const packages = fieldOf(parseJson(text), 'packages');
  if (typeof packages !== 'object' || packages === null) return undefined;
  const versions = new Map<string, string>();
  const optional = new Set<string>();
  for (const [path, of] of Object.entries(packages)) {
    const version = fieldOf(of, 'version');
    if (!path.includes('node_modules/') || typeof version !== 'string') continue;
    const name = path.replace(/^node_modules\//, '').replaceAll('/node_modules/', ' > ');
    versions.set(name, version);
    if (['optional', 'dev', 'devOptional', 'peer'].some((key) => fieldOf(of, key) === true)) optional.add(name);
  }
  return { versions, optional };
}

/** pnpm keeps a copy of the lockfile that it has installed. */
const pnpm: Read = async (text, { readText, directory }) => {
  const installed = await readText(`${directory}/node_modules/.pnpm/lock.yaml`);
  if (installed === undefined) return 'not_installed';
  return installed === text ? 'in_step' : 'another lockfile is installed';
};

function python(lockedBy: (text: string) => Locked): Read {
  return async (text, { place, directory, system }) => {
    const { versions, optional } = lockedBy(text);
    const installed = (await pythonEnvironment(place, directory)) ?? (await system());
    const isThere = [...versions.keys()].some((name) => installed.has(name));
    return versions.size > 0 && !isThere ? 'not_installed' : told(versions, installed, optional);
  };
}

async function pythonEnvironment(place: Place, directory: string): Promise<Versions | undefined> {
  for (const name of ['.venv', 'venv'])
    for (const { path } of await place.list(`${directory}/${name}/lib`, { depthMax: 1, entriesMax: 16 }))
      if (/^python3\.\d+$/.test(nameOf(path))) return distributions(place, `${path}/site-packages`);
  return undefined;
}

/** `[[package]]` tables of TOML, each with a name and a version; of two versions it is one that is installed. */
function lockedPackages(text: string): Locked {
  const found = new Map<string, string>();
  for (const table of text.split(/^\[\[package\]\]\s*$/m).slice(1)) {
    const [, name] = /^name = "([^"]+)"/m.exec(table) ?? [];
    const [, version] = /^version = "([^"]+)"/m.exec(table) ?? [];
    if (name === undefined || version === undefined) continue;
    const before = found.get(pythonName(name));
    found.set(pythonName(name), before === undefined ? version : `${before} or ${version}`);
  }
  return { versions: found, optional: new Set(found.keys()) };
}

const pinned = /^[ \t]*([A-Za-z0-9][\w.-]*)(?:\[[^\]\n]*\])?[ \t]*===?[ \t]*([^\s;#\\,*]+)[ \t]*(;?)/gm;

/** Only what is pinned says which version is right; a marker (PEP 508) may leave it to other machines. */
function pinnedRequirements(text: string): Locked {
  const versions = new Map<string, string>();
  const optional = new Set<string>();
  for (const [, name = '', version = '', marker] of text.matchAll(pinned)) {
    versions.set(pythonName(name), version);
    if (marker === ';') optional.add(pythonName(name));
  }
  return { versions, optional };
}

function told(locked: Versions, installed: Versions, optional: ReadonlySet<string>): string {
  const differing: string[] = [];
  for (const [name, version] of locked) {
    const found = installed.get(name);
    if (found === undefined ? optional.has(name) : version.split(' or ').includes(found)) continue;
    differing.push(`${name}: ${version} locked, ${found ?? 'none'} installed`);
  }
  if (differing.length === 0) return 'in_step';
  differing.sort();
  const more = differing.length - toldMax;
  return [...differing.slice(0, toldMax), ...(more > 0 ? [`and ${more} more`] : [])].join('; ');
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Readonly<Record<string, unknown>>)[name]
    : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
