import { link, lstat, rename, rmdir, unlink } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, RunnerError } from '../../errors.ts';
import { failpoint } from '../../failpoint.ts';
import type { HeldDirectory } from './held-directory.ts';
import type { Place } from './place.ts';

/**
 * Branches, as gitrepository-layout(5) and git-pack-refs(1) have them. They are read and written here because git would
 * run the hooks of the repository (`reference-transaction`) and follow links inside of it. Promises:
 *  - a branch is swapped from one commit to another, or stays as it is: git's own lock (`<ref>.lock`) is held meanwhile;
 *  - a lock that a promotion left which was killed is known again by the same promotion, and goes.
 */

/** The full name of a branch. `invalid_request` for what git would not take, and for what is no plain name. */
export function branchRef(branch: string): string {
  const isPlain = branch !== '' && Buffer.byteLength(branch) <= 200 && !/^-|^refs\/|^HEAD$/.test(branch);
  if (isPlain && !notInRefs.test(branch)) return `refs/heads/${branch}`;
  throw new RunnerError('invalid_request', `${JSON.stringify(branch.slice(0, 100))} is no name of a branch`);
}

/** The commit that a branch names; undefined where there is no such branch. Takes the full name, `refs/heads/x`. */
export async function readRef(place: Place, ref: string): Promise<string | undefined> {
  const { names, leaf } = partsOf(ref);
  const directories: HeldDirectory[] = [];
  try {
    for (let at: HeldDirectory | undefined = place.common, index = 0; index < names.length; index++) {
      at = await at?.find(names[index] ?? '');
      if (at === undefined) break;
      directories.push(at);
    }
    const above = directories.length === names.length ? directories.at(-1) : undefined;
    return (above && (await readLoose(place, above, leaf))) ?? findPacked(await readPacked(place), ref);
  } finally {
    await closeAll(directories);
  }
}

/**
 * Has the branch name `to` where it named `from`, or nothing. `conflict` where it names something else now, which is then
 * as it was; where it names `to` already, nothing is done. `own`: what identifies this promotion, to know its leftovers.
 */
export async function swapRef(
  place: Place,
  ref: string,
  { from, to, own }: { readonly from: string | undefined; readonly to: string; readonly own: string },
): Promise<void> {
  const { names, leaf } = partsOf(ref);
  const directories: HeldDirectory[] = [];
  try {
    let above = place.common;
    for (const name of names) {
      above = await above.ensure(name);
      directories.push(above);
    }
    const draft = `glovebox-${own}.new`;
    await lock(place, above, leaf, draft, to);
    try {
      await failpoint('promote.locked');
      const packed = await readPacked(place);
      const now = (await readLoose(place, above, leaf)) ?? findPacked(packed, ref);
      if (now === to) return await unlink(above.at(`${leaf}.lock`));
      if (now !== from) throw moved(ref, from, now);
      refuseInTheWay(packed, ref);
      await rmdir(above.at(leaf)).catch(() => undefined); // an empty directory that git left, where there is one
      await rename(above.at(`${leaf}.lock`), above.at(leaf));
    } catch (error) {
      await unlink(above.at(`${leaf}.lock`)).catch(() => undefined); // `error` is what counts
      throw error instanceof RunnerError ? error : inTheWay(ref, error);
    } finally {
      await unlink(place.common.at(draft)).catch(() => undefined);
    }
    await above.sync();
  } finally {
    await closeAll(directories);
  }
}

/** git-check-ref-format(1), and what a reader would not see. */
const notInRefs = /[\p{Cc}\p{Cf} ~^:?*[\\]|\.\.|@\{|(^|\/)(\.|\/|$)|(\.lock|\.)(\/|$)/u;
const lockWaitMs = 15_000;
const lockLookMs = 20;
const refBytesMax = 4096;
const packedBytesMax = 256 * 1024 * 1024;

/**
 * Put down whole, and with a second name of ours: a lock that is the same file as that is one that we left when we were killed,
 * since one promotion is worked on by one at a time.
 */
async function lock(place: Place, above: HeldDirectory, leaf: string, draft: string, to: string): Promise<void> {
  const { common } = place;
  const name = `${leaf}.lock`;
  const [ours, there] = await Promise.all([common.at(draft), above.at(name)].map(identityOf));
  if (ours !== undefined && ours === there) await unlink(above.at(name)).catch(() => undefined);
  await unlink(common.at(draft)).catch(() => undefined);
  await common.create(draft, [Buffer.from(`${to}\n`)], 0o644);
  for (const endMs = performance.now() + lockWaitMs; ;) {
    const error = await link(common.at(draft), above.at(name)).then(
      () => undefined,
      (thrown: NodeJS.ErrnoException) => thrown,
    );
    if (error === undefined) return;
    if (error.code === 'EEXIST' && performance.now() < endMs) {
      await sleep(lockLookMs);
      continue;
    }
    await unlink(common.at(draft)).catch(() => undefined);
    if (error.code !== 'EEXIST') throw inTheWay(`${above.path}/${name}`, error);
    throw new RunnerError(
      'conflict',
      `${above.path}/${name} is there: somebody changes this branch, or died while doing so; if nobody does, remove it and try again`,
    );
  }
}

/** Which file, whatever its name. */
async function identityOf(path: string): Promise<string | undefined> {
  const found = await lstat(path).catch(() => undefined);
  return found === undefined ? undefined : `${found.dev}:${found.ino}`;
}

async function readLoose(place: Place, above: HeldDirectory, leaf: string): Promise<string | undefined> {
  let text: string | undefined;
  try {
    text = (await above.read(leaf, refBytesMax))?.toString('latin1').trim();
  } catch (error) {
    const below = await above.find(leaf); // a directory is no branch; what is neither is refused here once more
    if (below === undefined) throw error;
    await below.close();
    return undefined;
  }
  if (text === undefined || idOf(place).test(text)) return text;
  throw new RunnerError(
    'target_refused',
    `${above.path}/${leaf} names no commit (${JSON.stringify(text.slice(0, 60))}); choose another branch, or mend this one`,
  );
}

async function readPacked(place: Place): Promise<Buffer> {
  return (await place.common.read('packed-refs', packedBytesMax)) ?? Buffer.alloc(0);
}

function findPacked(packed: Buffer, ref: string): string | undefined {
  const line = Buffer.concat([Buffer.from(' '), Buffer.from(ref), Buffer.from('\n')]);
  const at = packed.indexOf(line);
  if (at < 0) return undefined;
  return packed.toString('latin1', packed.lastIndexOf(10, at) + 1, at);
}

/** A name cannot be a branch and a directory of branches. */
function refuseInTheWay(packed: Buffer, ref: string): void {
  const parts = ref.split('/');
  const above = parts.slice(0, -1).map((_, index) => parts.slice(0, index + 1).join('/'));
  const taken = above.find((name) => findPacked(packed, name) !== undefined);
  if (taken !== undefined || packed.includes(` ${ref}/`))
    throw inTheWay(ref, new Error(`${taken ?? `${ref}/...`} is a branch`));
}

function inTheWay(ref: string, cause: unknown): RunnerError {
  return new RunnerError('conflict', `${ref} cannot be made: ${messageOf(cause)}; choose another name with --branch`, {
    cause,
  });
}

function moved(ref: string, from: string | undefined, now: string | undefined): RunnerError {
  const [was, is] = [from ?? 'nothing', now ?? 'nothing'];
  return new RunnerError('conflict', `${ref} named ${was}, and names ${is} now; promote again, which looks at it anew`);
}

const idOf = ({ format }: Place): RegExp => (format === 'sha1' ? /^[0-9a-f]{40}$/ : /^[0-9a-f]{64}$/);

function partsOf(ref: string): { readonly names: readonly string[]; readonly leaf: string } {
  const names = ref.split('/');
  return { names: names.slice(0, -1), leaf: names.at(-1) ?? '' };
}

async function closeAll(directories: readonly HeldDirectory[]): Promise<void> {
  for (const each of directories) await each.close();
}
