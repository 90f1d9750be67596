import { constants, realpathSync } from 'node:fs';
import { lstat, open, opendir, readFile, realpath, type FileHandle } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { RunnerError, messageOf } from '../errors.ts';
import { Scope, secretGlobs } from '../workspace/scope/scope.ts';
import { mountPointsIn } from './mount-info.ts';

/** A host directory that a policy shares with its runs, read-only. */
export interface InputSpec {
  /** Absolute, real path on this machine. */
  readonly source: string;
  /** `/inputs/<name>`. */
  readonly target: string;
}

export interface InputRules {
  /** The policy's own: what it denies is in no input either, and no input lies in it. */
  readonly deny: readonly string[];
  /** Directories of the runner and of the engine, and the workspace: an input is none of them, not above and not below. */
  readonly apart: readonly string[];
}

/** Held open, so that its inode number stays its own until what the engine has mounted is compared with it. */
export interface OpenedInput extends InputSpec {
  readonly handle: FileHandle;
  readonly identity: Identity;
  readonly files: number;
  readonly directories: number;
}

export interface Identity {
  readonly device: bigint;
  readonly inode: bigint;
}

/**
 * Opens a directory that is to be shared. Promises, at the time it is opened (what this machine puts there later is seen):
 *  - it is a directory, reached through no link, with nothing mounted in it, and what was looked at is what `handle` holds;
 *  - it lies neither above nor below what belongs to the system, the runner, the engine or the workspace, is nobody's home,
 *    and not a place that usually holds secrets;
 *  - nothing in it is a socket, a FIFO or a device, or has a name that the policy denies.
 * Otherwise `input_refused`, with the first path that stands in the way.
 */
export async function openInput(spec: InputSpec, rules: InputRules): Promise<OpenedInput> {
  const { source } = spec;
  const refuse = (why: string): RunnerError => refused(spec, why);
  const inTheWay = placeInTheWay(source, rules);
  if (inTheWay !== undefined) throw refuse(inTheWay);
  let handle: FileHandle | undefined;
  try {
    const real = await realpath(source);
    if (real !== source) throw refuse(`it is reached through a link; write its real path, ${real}`);
    const mount = mountPointsIn(await readFile('/proc/self/mountinfo', 'utf8')).find((at) => isBelow(at, source));
    if (mount !== undefined) throw refuse(`${mount} is mounted in it, and would not come along`);
    handle = await open(source, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    const { dev: device, ino: inode } = await handle.stat({ bigint: true });
    const counts = await lookThrough(spec, handle, rules);
    return { ...spec, handle, identity: { device, inode }, ...counts };
  } catch (error) {
    await handle?.close();
    if (error instanceof RunnerError) throw error;
    const why = (error as NodeJS.ErrnoException).code === 'ENOTDIR' ? 'it is not a directory' : messageOf(error);
    throw refuse(why);
  }
}

function refused({ source, target }: InputSpec, why: string): RunnerError {
  return new RunnerError(
    'input_refused',
    `${JSON.stringify(source)} cannot be the input ${target}: ${why}. Share a directory that holds nothing else`,
  );
}

const entriesMax = 1_000_000;
const depthMax = 128;

/** What no run may be shown, nor anything above or below it. */
const systemPlaces = [
  '/boot',
  '/dev',
  '/etc',
  '/proc',
  '/run',
  '/sys',
  '/var/lib/containerd',
  '/var/lib/containers',
  '/var/lib/docker',
  '/var/run',
];

function placeInTheWay(source: string, { deny, apart }: InputRules): string | undefined {
  for (const place of [...systemPlaces, ...apart.map(realOf)]) {
    if (source === place || isBelow(source, place) || isBelow(place, source))
      return `${place} must be neither in it nor around it`;
  }
  for (const home of ['/root', '/home', realOf(homedir())])
    if (source === home || isBelow(home, source)) return `${home} is in it, with what people keep at home`;
  if (dirname(source) === '/home') return 'it is a home, with what people keep there';
  const path = source.slice(1);
  const scope = Scope.compile({ read: ['**'], write: [], scratch: [], deny: [...new Set([...deny, ...secretGlobs])] });
  const { glob } = scope.explain(path);
  return scope.denies(path) ? `${glob ?? 'files.deny'} names it: such places hold secrets` : undefined;
}

function realOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path; // it is not there, and then nothing can be in it
  }
}

function isBelow(path: string, above: string): boolean {
  return path.startsWith(above === '/' ? above : `${above}/`);
}

/** Names and kinds of everything in it, bounded. Below it is reached through the handle: a path that moves is not followed. */
async function lookThrough(
  spec: InputSpec,
  handle: FileHandle,
  rules: InputRules,
): Promise<{ files: number; directories: number }> {
  const root = `/proc/self/fd/${handle.fd}`;
  const scope = Scope.compile({ read: ['**'], write: [], scratch: [], deny: rules.deny });
  const apart = await identitiesOf([...systemPlaces, ...rules.apart]);
  let [files, directories] = [0, 0];
  const pending = [''];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    directories++;
    const directory = join(root, at);
    const { dev, ino } = await lstat(`${directory}/.`, { bigint: true });
    const place = apart.get(`${dev}:${ino}`);
    if (place !== undefined) throw refused(spec, `${shown(at)} is ${place} under another name`);
    for await (const entry of await opendir(directory, { bufferSize: 1024 })) {
      const path = at === '' ? entry.name : `${at}/${entry.name}`;
      if (scope.denies(path)) throw refused(spec, `files.deny ${scope.explain(path).glob ?? ''} names ${shown(path)}`);
      if (files + directories + pending.length >= entriesMax)
        throw refused(spec, `it has more than ${entriesMax} entries`);
      if (entry.isDirectory()) {
        if (path.split('/').length > depthMax) throw refused(spec, `it is deeper than ${depthMax} levels`);
        pending.push(path);
      } else if (entry.isFile() || entry.isSymbolicLink()) files++;
      else throw refused(spec, `${shown(path)} is a socket, a pipe or a device`);
    }
  }
  return { files, directories };
}

async function identitiesOf(places: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const place of places) {
    const stats = await lstat(realOf(place), { bigint: true }).catch(() => undefined);
    if (stats !== undefined) found.set(`${stats.dev}:${stats.ino}`, place);
  }
  return found;
}

function shown(path: string): string {
  return JSON.stringify(path === '' ? '.' : path.slice(0, 200));
}
