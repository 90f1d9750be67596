import { lstatSync, readdirSync, readlinkSync, type Stats } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';

import { decodePath, encodePath } from '../../bytes-path.ts';
import { RunnerError } from '../../errors.ts';
import { parentOf, sortedByBytes } from '../diff.ts';
import { parseGlob, type Glob } from '../scope/glob.ts';
import { askGit, splitNames } from './host-git.ts';
import { defaultLimits, type WorkspaceLimits } from '../limits.ts';
import { linkLeavesTree } from '../changes/links.ts';
import { isCanonicalPath } from '../manifest.ts';
import type { Scope } from '../scope/scope.ts';
import { fileSeen, type FileSeen } from './seen.ts';

/**
 * Which files of a host directory are brought into a sandbox. In a git work tree: what is tracked and there, and what is
 * untracked and not ignored (`.gitignore` and `.git/info/exclude`; nobody's global ignore file). Elsewhere: everything
 * but `.git`. Of those, what the scope imports. Nothing outside the directory is ever read, no link is followed, and
 * `import_refused` names the first path that breaks a limit.
 */
export async function selectFiles(root: string, scope: Scope, options: SelectOptions = {}): Promise<Selection> {
  const directory = await realDirectory(root);
  const limits = { ...defaultLimits, ...options.limits };
  const leftOut = new LeftOutTally(options.leftOutExamplesMax ?? examplesMax);
  const git = await listWithGit(directory, options, leftOut);
  const listing = git ?? (await listPlainly(directory, scope, limits, leftOut));
  const files = await look(directory, listing.paths, scope, limits, leftOut);
  const directories = new Set(listing.directories);
  for (const file of files.keys()) {
    for (let above = parentOf(file); above !== '' && !directories.has(above); above = parentOf(above))
      directories.add(above);
  }
  return {
    root: directory,
    kind: git === undefined ? 'plain' : 'git',
    ...(git?.head === undefined ? {} : { head: git.head }),
    files: [...files.values()],
    directories: [...sortedByBytes(Array.from(directories, (name) => [name, true] as const)).keys()],
    leftOut: leftOut.report(),
  };
}

export interface SelectOptions {
  /** Ignored files to bring in nevertheless, as globs. */
  readonly includeIgnored?: readonly string[];
  readonly limits?: Partial<WorkspaceLimits>;
  /** How many of the paths that are left out are named; default 100. */
  readonly leftOutExamplesMax?: number;
  readonly signal?: AbortSignal;
}

export interface Selection {
  readonly root: string;
  readonly kind: 'git' | 'plain';
  /** Commit that is checked out, where there is one. */
  readonly head?: string;
  readonly files: readonly SelectedFile[];
  /** All directories the files lie in; of a plain directory the empty ones too. */
  readonly directories: readonly string[];
  readonly leftOut: LeftOut;
}

/** Of an empty workspace. */
export const nothing: Selection = {
  root: '/',
  kind: 'plain',
  files: [],
  directories: [],
  leftOut: { counts: {}, examples: [] },
};

export type SelectedFile =
  | { readonly kind: 'file'; readonly path: string; readonly sizeBytes: number; readonly seen?: FileSeen }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string };

export type LeftOutReason =
  | 'denied'
  | 'out_of_scope'
  | 'ignored'
  | 'submodule'
  | 'nested_repository'
  | 'special_file'
  | 'link_leaves_tree'
  | 'missing';

export interface LeftOut {
  /** A directory that was not entered counts once. */
  readonly counts: Readonly<Partial<Record<LeftOutReason, number>>>;
  /** The first ones. */
  readonly examples: readonly { readonly path: string; readonly reason: LeftOutReason }[];
}

interface Listing {
  readonly paths: readonly string[];
  readonly directories: readonly string[];
  readonly head?: string | undefined;
}

class LeftOutTally {
  readonly #counts = new Map<LeftOutReason, number>();
  readonly #examples: { path: string; reason: LeftOutReason }[] = [];
  readonly #examplesMax: number;

  constructor(examplesMax: number) {
    this.#examplesMax = examplesMax;
  }

  add(path: string, reason: LeftOutReason): void {
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1);
    if (this.#examples.length < this.#examplesMax) this.#examples.push({ path, reason });
  }

  report(): LeftOut {
    return { counts: Object.fromEntries(this.#counts), examples: [...this.#examples] };
  }
}

const examplesMax = 100;
const lookedAtOnce = 256;

async function realDirectory(root: string): Promise<string> {
  try {
    const directory = await realpath(root);
    if ((await stat(directory)).isDirectory()) return directory;
  } catch (cause) {
    throw new RunnerError('import_refused', `import: ${root} cannot be read; name an existing directory`, { cause });
  }
  throw new RunnerError('import_refused', `import: ${root} is not a directory; name the directory to work on`);
}

async function listWithGit(root: string, options: SelectOptions, leftOut: LeftOutTally): Promise<Listing | undefined> {
  const ask = async (...args: string[]): Promise<Buffer> => {
    const answer = await askGit(root, args, options.signal === undefined ? {} : { signal: options.signal });
    if (answer.code === 0) return answer.stdout;
    throw new RunnerError('import_refused', `import: git ${args[0] ?? ''} in ${root} failed: ${answer.stderr}`);
  };
  const inside = await askGit(root, ['rev-parse', '--is-inside-work-tree']);
  if (inside.code !== 0 || inside.stdout.toString().trim() !== 'true') return undefined;
  // A directory that an outer repository ignores is not part of it. (`check-ignore` knows no literal pathspecs.)
  const apart = await askGit(root, ['--no-literal-pathspecs', 'check-ignore', '--quiet', '--', root]);
  if (apart.code === 0) return undefined;

  const [staged, others, ignored, head] = await Promise.all([
    ask('ls-files', '-z', '--stage'),
    ask('ls-files', '-z', '--others', '--exclude-standard'),
    askIgnored(ask, options.includeIgnored ?? []),
    askGit(root, ['rev-parse', '--verify', '--quiet', 'HEAD']),
  ]);
  const paths = new Set<string>();
  for (const line of splitNames(staged)) {
    const name = line.slice(line.indexOf('\t') + 1);
    if (line.startsWith('160000 ')) leftOut.add(name, 'submodule');
    else paths.add(name);
  }
  for (const name of splitNames(others)) {
    if (name.endsWith('/')) leftOut.add(name.slice(0, -1), 'nested_repository');
    else paths.add(name);
  }
  for (const name of ignored.names) {
    if (ignored.globs.some((glob) => glob.matches(name.split('/')))) paths.add(name);
    else leftOut.add(name.replace(/\/$/, ''), 'ignored');
  }
  return { paths: [...paths], directories: [], head: head.code === 0 ? head.stdout.toString().trim() : undefined };
}

async function askIgnored(
  ask: (...args: string[]) => Promise<Buffer>,
  patterns: readonly string[],
): Promise<{ names: readonly string[]; globs: readonly Glob[] }> {
  const list = ['ls-files', '-z', '--others', '--ignored', '--exclude-standard'];
  const globs = patterns.flatMap((pattern) => parseGlob(pattern));
  return { names: splitNames(await ask(...list, ...(globs.length === 0 ? ['--directory'] : []))), globs };
}

async function listPlainly(
  root: string,
  scope: Scope,
  limits: WorkspaceLimits,
  leftOut: LeftOutTally,
): Promise<Listing> {
  const paths: string[] = [];
  const directories: string[] = [];
  const pending = [''];
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    await setImmediate();
    for (const entry of readdirSync(hostPath(root, directory), { withFileTypes: true, encoding: 'buffer' })) {
      const name = decodePath(entry.name);
      const whole = directory === '' ? name : `${directory}/${name}`;
      if (name === '.git') continue;
      if (!entry.isDirectory()) paths.push(whole);
      else if (scope.denies(whole)) leftOut.add(whole, 'denied');
      else if (scope.classOf(whole, 'directory') === 'absent') leftOut.add(whole, 'out_of_scope');
      else {
        directories.push(whole);
        pending.push(whole);
      }
      checkShape(whole, limits);
    }
    if (paths.length + directories.length > limits.filesMax) throw tooMany(directory, limits);
  }
  return { paths, directories };
}

/** What the scope imports of these, sorted. */
async function look(
  root: string,
  paths: readonly string[],
  scope: Scope,
  limits: WorkspaceLimits,
  leftOut: LeftOutTally,
): Promise<ReadonlyMap<string, SelectedFile>> {
  const found: [string, SelectedFile][] = [];
  const links = new Map<string, string>();
  const realDirectories = new Map<string, boolean>([['', true]]);
  let bytes = 0;
  for (const [index, name] of paths.entries()) {
    if (index % lookedAtOnce === 0) await setImmediate();
    if (!scope.imports(name)) {
      leftOut.add(name, scope.denies(name) ? 'denied' : 'out_of_scope');
      continue;
    }
    checkShape(name, limits);
    const stats = liesInRealDirectory(root, name, realDirectories) ? lookAt(root, name) : undefined;
    if (stats === undefined || stats.isDirectory()) leftOut.add(name, 'missing');
    else if (stats.isSymbolicLink()) links.set(name, decodePath(readlinkSync(hostPath(root, name), 'buffer')));
    else if (!stats.isFile()) leftOut.add(name, 'special_file');
    else {
      if (stats.size > limits.fileBytesMax)
        throw refused(name, `has ${stats.size} bytes, more than ${limits.fileBytesMax}`);
      bytes += stats.size;
      if (bytes > limits.bytesMax) throw refused(name, `brings the total above ${limits.bytesMax} bytes`);
      found.push([name, { kind: 'file', path: name, sizeBytes: stats.size, seen: fileSeen(stats) }]);
    }
    if (found.length + links.size > limits.filesMax) throw tooMany(name, limits);
  }
  for (const [name, target] of links) {
    if (linkLeavesTree(name, target, (at) => links.get(at))) leftOut.add(name, 'link_leaves_tree');
    else found.push([name, { kind: 'symlink', path: name, target }]);
  }
  return sortedByBytes(found);
}

/** A tracked path below a directory that has become a link would be read through that link. */
function liesInRealDirectory(root: string, name: string, known: Map<string, boolean>): boolean {
  const parent = parentOf(name);
  const before = known.get(parent);
  if (before !== undefined) return before;
  const real = liesInRealDirectory(root, parent, known) && lookAt(root, parent)?.isDirectory() === true;
  known.set(parent, real);
  return real;
}

function lookAt(root: string, name: string): Stats | undefined {
  try {
    return lstatSync(hostName(root, name), { throwIfNoEntry: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return undefined;
    throw new RunnerError('import_refused', `import: ${JSON.stringify(name)} cannot be looked at`, { cause: error });
  }
}

function checkShape(name: string, limits: WorkspaceLimits): void {
  const bytes = encodePath(name).length;
  if (bytes > limits.pathBytesMax) throw refused(name, `is a path of ${bytes} bytes, more than ${limits.pathBytesMax}`);
  const segments = name.split('/');
  if (segments.length > limits.depthMax)
    throw refused(name, `lies ${segments.length} levels deep, more than ${limits.depthMax}`);
  // git prints what an index says, and an index that came with a directory can say anything.
  if (!isCanonicalPath(name) || segments.includes('.git'))
    throw refused(name, "is in git's index, but no path of a work tree", 'do not trust this .git: make a new clone');
}

function tooMany(name: string, limits: WorkspaceLimits): RunnerError {
  return refused(name, `is one more than ${limits.filesMax} files`);
}

function refused(name: string, why: string, then = 'narrow the read scope or raise the limit'): RunnerError {
  const shown = JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}…` : name);
  return new RunnerError('import_refused', `import: ${shown} ${why}; ${then}`);
}

/** Where a path of the workspace lies on the host, as bytes. */
export function hostPath(root: string, name: string): Buffer {
  return Buffer.concat([Buffer.from(root === path.sep ? '' : root), Buffer.from(path.sep), encodePath(name)]);
}

/** The same for many calls in a row: thousands of buffers less. */
export function hostName(root: string, name: string): Buffer | string {
  return /[\uD800-\uDFFF]/.test(name) ? hostPath(root, name) : `${root === path.sep ? '' : root}${path.sep}${name}`;
}

/** Whether an open file is the one at that path: a directory above it may have become a link before it was opened. */
export function liesAt(descriptor: number, root: string, name: string): boolean {
  return readlinkSync(`/proc/self/fd/${descriptor}`, 'buffer').equals(hostPath(root, name));
}
