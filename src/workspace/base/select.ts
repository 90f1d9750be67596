import { constants, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';

import { decodePath, encodePath } from '../../bytes-path.ts';
import { canonicalJson } from '../../digest.ts';
import { RunnerError } from '../../errors.ts';
import { parentOf, sortedByBytes } from '../diff.ts';
import {
  checkoutIn,
  listWithGit,
  namesOf,
  sameNames,
  type Checkout,
  type GitListing,
  type ListOptions,
} from './git-listing.ts';
import { hostPath } from './host-path.ts';
import { LeftOutTally, type LeftOut } from './left-out.ts';
import { fates, isBroughtIn, type Look, type NotedLook } from './look.ts';
import { defaultLimits, type WorkspaceLimits } from '../limits.ts';
import { linkLeavesTree } from '../changes/links.ts';
import { isCanonicalPath } from '../manifest.ts';
import { RealDirectories } from './real-directories.ts';
import type { Scope } from '../scope/scope.ts';
import { isSettled, SeenRows, type FileSeen } from './seen.ts';

/**
 * Which files of a host directory are brought into a sandbox. In a git work tree: what is tracked and there, and what is
 * untracked and not ignored (`.gitignore` and `.git/info/exclude`; nobody's global ignore file). Elsewhere: everything
 * but `.git`. Of those, what the scope imports. Nothing outside the directory is ever read, no link is followed, and
 * `import_refused` names the first path that breaks a limit. Every file is looked at each time; where the names are those
 * of the last look, and so is what they are, nothing else is asked about them.
 */
export async function selectFiles(root: string, scope: Scope, options: SelectOptions = {}): Promise<Selection> {
  const directory = await realDirectory(root);
  const question = questionOf(directory, scope, options);
  const last = await options.last?.(directory);
  const known = last?.asked === question.asked ? last : undefined;
  // Both take their time: git in processes of its own, and the looks here.
  const listed = listWithGit(directory, options);
  listed.catch(() => undefined); // waited for below
  const rows = known && (await lookAgain(directory, known.names, options.signal));
  const listing = await listed;
  const again = known && rows && sameLook(question, known, rows, listing);
  return new Looked(again ?? (await lookAnew(question, listing, known && rows && { names: known.names, rows })), last);
}

export interface SelectOptions extends ListOptions {
  readonly limits?: Partial<WorkspaceLimits>;
  /** How many of the paths that are left out are named; default 100. */
  readonly leftOutExamplesMax?: number;
  /** What that directory looked like when it was last imported under this scope. */
  readonly last?: (root: string) => Promise<NotedLook | undefined>;
}

export interface Selection {
  readonly root: string;
  readonly kind: 'git' | 'plain';
  /** Of a git work tree. */
  readonly checkout: Checkout;
  readonly files: readonly SelectedFile[];
  /** All directories the files lie in; of a plain directory the empty ones too. */
  readonly directories: readonly string[];
  readonly leftOut: LeftOut;
  readonly look: Look;
  /** What `look` was compared with. */
  readonly last?: NotedLook;
}

export type SelectedFile =
  | { readonly kind: 'file'; readonly path: string; readonly sizeBytes: number; readonly seen?: FileSeen }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string };

/** Of the names of a look, the one at that place. */
export function selectedAt({ names, rows, fates: found, targets }: Look, at: number): SelectedFile {
  const path = names[at] ?? '';
  if (found[at] === fates.link) return { kind: 'symlink', path, target: targets.get(path) ?? '' };
  return { kind: 'file', path, sizeBytes: rows.sizeOf(at), seen: rows.seen(at) };
}

/** Most imports need no list of all files. */
class Looked implements Selection {
  readonly look: Look;
  readonly last?: NotedLook;
  #files: readonly SelectedFile[] | undefined;

  constructor(look: Look, last?: NotedLook) {
    this.look = look;
    if (last !== undefined) this.last = last;
  }

  get root(): string {
    return this.look.root;
  }

  get kind(): Selection['kind'] {
    return this.look.kind;
  }

  get checkout(): Checkout {
    return checkoutIn(this.look.listing);
  }

  get directories(): readonly string[] {
    return this.look.directories;
  }

  get leftOut(): LeftOut {
    return this.look.leftOut;
  }

  get files(): readonly SelectedFile[] {
    const { look } = this;
    this.#files ??= look.names.flatMap((_, at) => (isBroughtIn(look.fates[at]) ? [selectedAt(look, at)] : []));
    return this.#files;
  }
}

/** Of an empty workspace. */
export const nothing: Selection = new Looked({
  root: '/',
  kind: 'plain',
  beganMs: 0,
  asked: '',
  names: [],
  rows: SeenRows.of(0),
  fates: new Uint8Array(),
  targets: new Map(),
  directories: [],
  leftOut: { counts: {}, examples: [] },
});

interface Question {
  readonly root: string;
  readonly beganMs: number;
  readonly scope: Scope;
  readonly options: SelectOptions;
  readonly limits: WorkspaceLimits;
  readonly asked: string;
}

interface Seen {
  readonly names: readonly string[];
  readonly rows: SeenRows;
}

const examplesMax = 100;
const lookedAtOnce = 256;

function questionOf(root: string, scope: Scope, options: SelectOptions): Question {
  const limits = { ...defaultLimits, ...options.limits };
  const { includeIgnored = [], leftOutExamplesMax = examplesMax } = options;
  const asked = canonicalJson({ includeIgnored, leftOutExamplesMax, limits });
  return { root, beganMs: Date.now(), scope, options, limits, asked };
}

async function realDirectory(root: string): Promise<string> {
  try {
    const directory = await realpath(root);
    if ((await stat(directory)).isDirectory()) return directory;
  } catch (cause) {
    throw new RunnerError('import_refused', `import: ${root} cannot be read; name an existing directory`, { cause });
  }
  throw new RunnerError('import_refused', `import: ${root} is not a directory; name the directory to work on`);
}

/** What is there now. A file that is written to later is read later too, and compared with this. */
async function lookAgain(root: string, names: readonly string[], signal: AbortSignal | undefined): Promise<SeenRows> {
  const rows = SeenRows.of(names.length);
  const real = new RealDirectories(root);
  for (const [at, name] of names.entries()) {
    if (at % lookedAtOnce === 0) {
      await setImmediate(); // the work is synchronous, for speed: others have their turn in between
      signal?.throwIfAborted();
    }
    const stats = real.lookAt(name);
    if (stats !== undefined) rows.put(at, stats);
  }
  return rows;
}

/** Undefined where more has changed than what is in some files. */
function sameLook(
  { root, beganMs, limits }: Question,
  last: NotedLook,
  rows: SeenRows,
  listing: GitListing | undefined,
): Look | undefined {
  if (listing === undefined ? !sameDirectories(root, last) : !last.listing || !sameNames(last.listing, listing))
    return undefined;
  let bytes = 0;
  for (const [at, fate] of last.fates.entries()) {
    const kind = rows.modeOf(at) & constants.S_IFMT;
    if (fate === fates.file) {
      if (kind !== constants.S_IFREG || rows.sizeOf(at) > limits.fileBytesMax) return undefined;
      bytes += rows.sizeOf(at);
    } else if (fate === fates.missing ? !isMissing(kind) : !rows.isSame(at, last.rows, at)) return undefined;
  }
  if (bytes > limits.bytesMax) return undefined;
  const { kind, asked, names, targets, directories, directoryRows, leftOut } = last;
  const shape = { root, kind, beganMs, asked, names, fates: last.fates, targets, directories, leftOut };
  // The bytes of the listing that the names were made of are as good as these, and are kept already.
  const now = checkoutIn(listing);
  const listed = listing === undefined || last.listing === undefined ? {} : { listing: { ...last.listing, ...now } };
  return { ...shape, ...listed, rows, ...(directoryRows === undefined ? {} : { directoryRows }) };
}

/** A name comes or goes in a directory with a change of its times. */
function sameDirectories(root: string, { kind, directories, directoryRows }: NotedLook): boolean {
  if (kind !== 'plain' || directoryRows === undefined) return false;
  const [real, now] = [new RealDirectories(root), SeenRows.of(1)];
  return ['', ...directories].every((name, at) => {
    const stats = name === '' ? lstatSync(root) : real.lookAt(name);
    if (stats === undefined) return false;
    now.put(0, stats);
    return now.isSame(0, directoryRows, at);
  });
}

async function lookAnew(question: Question, listing: GitListing | undefined, seen: Seen | undefined): Promise<Look> {
  const { root, beganMs, asked, options } = question;
  const leftOut = new LeftOutTally(options.leftOutExamplesMax ?? examplesMax);
  const plain = listing === undefined ? await listPlainly(question, leftOut) : undefined;
  const names = plain?.names ?? (listing === undefined ? [] : namesOf(listing, options, leftOut));
  const found = await look(question, names, leftOut, seen);
  const directories = new Set(plain?.directories.keys());
  for (const [at, name] of found.names.entries()) {
    if (!isBroughtIn(found.fates[at])) continue;
    for (let above = parentOf(name); above !== '' && !directories.has(above); above = parentOf(above))
      directories.add(above);
  }
  directories.delete('');
  const sorted = sort([...directories]);
  return {
    root,
    kind: listing === undefined ? 'plain' : 'git',
    ...(listing === undefined ? {} : { listing }),
    beganMs,
    asked,
    ...found,
    directories: sorted,
    ...(plain === undefined ? {} : { directoryRows: rowsOf(sorted, plain.directories) }),
    leftOut: leftOut.report(),
  };
}

interface PlainListing {
  readonly names: readonly string[];
  /** Each with what it looked like before it was listed; `''` is the workspace itself. */
  readonly directories: ReadonlyMap<string, SeenRows>;
}

async function listPlainly({ root, scope, limits }: Question, leftOut: LeftOutTally): Promise<PlainListing> {
  const names: string[] = [];
  const directories = new Map<string, SeenRows>();
  const pending = [''];
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    await setImmediate();
    directories.set(directory, rowOf(directory === '' ? root : hostPath(root, directory)));
    for (const entry of readdirSync(hostPath(root, directory), { withFileTypes: true, encoding: 'buffer' })) {
      const name = decodePath(entry.name);
      const whole = directory === '' ? name : `${directory}/${name}`;
      if (name === '.git') continue;
      if (!entry.isDirectory()) names.push(whole);
      else if (scope.denies(whole)) leftOut.add(whole, 'denied');
      else if (scope.classOf(whole, 'directory') === 'absent') leftOut.add(whole, 'out_of_scope');
      else pending.push(whole);
      checkShape(whole, limits);
    }
    if (names.length + directories.size + pending.length - 1 > limits.filesMax) throw tooMany(directory, limits);
  }
  return { names, directories };
}

/** Of a directory that changes now, nothing is to be believed later. */
function rowOf(directory: Buffer | string): SeenRows {
  const [row, lookedMs, stats] = [SeenRows.of(1), Date.now(), lstatSync(directory)];
  row.put(0, stats);
  if (!isSettled(row.seen(0).changedMs, lookedMs)) row.disbelieve(0);
  return row;
}

function rowsOf(sorted: readonly string[], directories: ReadonlyMap<string, SeenRows>): SeenRows {
  const rows = SeenRows.of(sorted.length + 1);
  for (const [at, name] of ['', ...sorted].entries()) {
    const row = directories.get(name);
    if (row === undefined) rows.disbelieve(at);
    else rows.take(at, row, 0);
  }
  return rows;
}

/** What the scope imports of these, sorted. */
async function look(
  { root, scope, limits }: Question,
  listed: readonly string[],
  leftOut: LeftOutTally,
  seen: Seen | undefined,
): Promise<Pick<Look, 'names' | 'rows' | 'fates' | 'targets'>> {
  const places = new Map(seen?.names.map((name, at) => [name, at]));
  const imported = listed.filter((name) => {
    if (places.has(name)) return true; // it was asked before
    const isIn = scope.imports(name);
    if (isIn) checkShape(name, limits);
    else leftOut.add(name, scope.denies(name) ? 'denied' : 'out_of_scope');
    return isIn;
  });
  const names = sort(imported);
  const [rows, found] = [SeenRows.of(names.length), new Uint8Array(names.length)];
  const real = new RealDirectories(root);
  const links = new Map<string, string>();
  let [count, bytes] = [0, 0];
  for (const [at, name] of names.entries()) {
    if (at % lookedAtOnce === 0) await setImmediate();
    const place = places.get(name);
    if (seen !== undefined && place !== undefined) rows.take(at, seen.rows, place);
    else {
      const stats = real.lookAt(name);
      if (stats !== undefined) rows.put(at, stats);
    }
    const kind = rows.modeOf(at) & constants.S_IFMT;
    if (isMissing(kind)) leftOut.add(name, 'missing');
    else if (kind === constants.S_IFLNK) links.set(name, readLink(root, name));
    else if (kind !== constants.S_IFREG) leftOut.add(name, 'special_file');
    else {
      const size = rows.sizeOf(at);
      if (size > limits.fileBytesMax) throw refused(name, `has ${size} bytes, more than ${limits.fileBytesMax}`);
      bytes += size;
      if (bytes > limits.bytesMax) throw refused(name, `brings the total above ${limits.bytesMax} bytes`);
      count++;
    }
    found[at] = fateOf(kind);
    if (count + links.size > limits.filesMax) throw tooMany(name, limits);
  }
  const targets = new Map(links);
  for (const [at, name] of names.entries()) {
    const target = links.get(name);
    if (target === undefined || !linkLeavesTree(name, target, (link) => links.get(link))) continue;
    leftOut.add(name, 'link_leaves_tree');
    found[at] = fates.leavingLink;
    targets.delete(name);
  }
  return { names, rows, fates: found, targets };
}

const isMissing = (kind: number): boolean => kind === 0 || kind === constants.S_IFDIR;

function fateOf(kind: number): number {
  if (isMissing(kind)) return fates.missing;
  if (kind === constants.S_IFREG) return fates.file;
  return kind === constants.S_IFLNK ? fates.link : fates.special;
}

function readLink(root: string, name: string): string {
  try {
    return decodePath(readlinkSync(hostPath(root, name), 'buffer'));
  } catch (cause) {
    const message = `import: ${JSON.stringify(name)} is no longer the link that it was; try again`;
    throw new RunnerError('import_refused', message, { cause });
  }
}

/** By bytes. What git lists is sorted already. */
function sort(names: readonly string[]): readonly string[] {
  if (!names.some((name) => /[\uD800-\uFFFF]/.test(name))) return [...names].sort();
  return [...sortedByBytes(names.map((name) => [name, true] as const)).keys()];
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
