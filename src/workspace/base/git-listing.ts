import { decodePath } from '../../bytes-path.ts';
import { RunnerError } from '../../errors.ts';
import { parseGlob } from '../scope/glob.ts';
import { commonLength } from './common-length.ts';
import { askGit, splitNames } from './host-git.ts';
import type { LeftOutTally } from './left-out.ts';

/** What git says of the names in a work tree, as it says it: the same bytes mean the same names. */
export interface GitListing extends Checkout {
  /** What is in its index. */
  readonly staged: Buffer;
  /** What is neither there nor ignored. */
  readonly others: Buffer;
  readonly ignored: Buffer;
}

/** Where a directory is in a git work tree, and in its history. */
export interface Checkout {
  /** That is checked out, where there is one. */
  readonly commit?: string;
  /** Where below the top of the work tree; absent at the top. */
  readonly below?: string;
}

export function checkoutIn(
  found: { readonly [Name in keyof Checkout]: Checkout[Name] | undefined } | undefined,
): Checkout {
  const { commit, below } = found ?? {};
  return { ...(commit === undefined ? {} : { commit }), ...(below === undefined ? {} : { below }) };
}

export interface ListOptions {
  /** Ignored files to bring in nevertheless, as globs. */
  readonly includeIgnored?: readonly string[];
  readonly signal?: AbortSignal;
}

/** Undefined where there is no work tree. */
export async function listWithGit(root: string, options: ListOptions): Promise<GitListing | undefined> {
  const ask = async (...args: string[]): Promise<Buffer> => {
    const answer = await askGit(root, args, options.signal === undefined ? {} : { signal: options.signal });
    if (answer.code === 0) return answer.stdout;
    throw new RunnerError('import_refused', `import: git ${args[0] ?? ''} in ${root} failed: ${answer.stderr}`);
  };
  const inside = await askGit(root, ['rev-parse', '--is-inside-work-tree', '--show-prefix']);
  const [isInside, prefix] = linesOf(inside.stdout);
  if (inside.code !== 0 || isInside !== 'true') return undefined;
  // A directory that an outer repository ignores is not part of it. (`check-ignore` knows no literal pathspecs.)
  const apart = await askGit(root, ['--no-literal-pathspecs', 'check-ignore', '--quiet', '--', root]);
  if (apart.code === 0) return undefined;

  const others = ['ls-files', '-z', '--others', '--exclude-standard'];
  const whole = (options.includeIgnored ?? []).length > 0;
  const [staged, untracked, ignored, head] = await Promise.all([
    ask('ls-files', '-z', '--stage'),
    ask(...others),
    ask(...others, '--ignored', ...(whole ? [] : ['--directory'])),
    askGit(root, ['rev-parse', '--verify', '--quiet', 'HEAD']),
  ]);
  const commit = head.code === 0 ? { commit: head.stdout.toString().trim() } : {};
  const place = prefix === undefined ? {} : { below: prefix };
  return { staged, others: untracked, ignored, ...commit, ...place };
}

/** The first line, and the rest where there is some: a path may hold newlines, and ends with a slash. */
function linesOf(answer: Buffer): readonly [string, string?] {
  const end = answer.indexOf('\n');
  const rest = answer.subarray(end + 1, -2);
  return rest.length === 0
    ? [answer.toString('latin1', 0, end)]
    : [answer.toString('latin1', 0, end), decodePath(rest)];
}

/** The files it lists; what can be none is left out. */
export function namesOf(listing: GitListing, options: ListOptions, leftOut: LeftOutTally): readonly string[] {
  const globs = (options.includeIgnored ?? []).flatMap((pattern) => parseGlob(pattern));
  const names = new Set<string>();
  for (const line of splitNames(listing.staged)) {
    const name = line.slice(line.indexOf('\t') + 1);
    if (line.startsWith(submodule)) leftOut.add(name, 'submodule');
    else names.add(name);
  }
  for (const name of splitNames(listing.others)) {
    if (name.endsWith('/')) leftOut.add(name.slice(0, -1), 'nested_repository');
    else names.add(name);
  }
  for (const name of splitNames(listing.ignored)) {
    if (globs.some((glob) => glob.matches(name.split('/')))) names.add(name);
    else leftOut.add(name.replace(/\/$/, ''), 'ignored');
  }
  return [...names];
}

/** Whether two listings name the same, whatever git says of the contents. */
export function sameNames(before: GitListing, now: GitListing): boolean {
  if (!before.others.equals(now.others) || !before.ignored.equals(now.ignored)) return false;
  return sameStaged(before.staged, now.staged);
}

const submodule = '160000 ';

/** Line by line only where the bytes differ: a commit of a few files changes only their object ids. */
function sameStaged(before: Buffer, now: Buffer): boolean {
  for (let from = 0, at = 0; ;) {
    const same = commonLength(before, from, now, at);
    if (from + same === before.length || at + same === now.length)
      return from + same === before.length && at + same === now.length;
    const [one, other] = [lineAround(before, from + same), lineAround(now, at + same)];
    if (!nameIn(one.line).equals(nameIn(other.line)) || isSubmodule(one.line) !== isSubmodule(other.line)) return false;
    [from, at] = [one.end, other.end];
  }
}

function lineAround(bytes: Buffer, at: number): { readonly line: Buffer; readonly end: number } {
  const begin = at === 0 ? 0 : bytes.lastIndexOf(0, at - 1) + 1;
  const found = bytes.indexOf(0, begin);
  const end = found < 0 ? bytes.length : found + 1;
  return { line: bytes.subarray(begin, end), end };
}

const nameIn = (line: Buffer): Buffer => line.subarray(line.indexOf('\t') + 1);
const isSubmodule = (line: Buffer): boolean => line.toString('latin1', 0, submodule.length) === submodule;
