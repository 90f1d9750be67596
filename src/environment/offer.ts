import { RunnerError } from '../errors.ts';
import { decodePath, encodePath } from '../bytes-path.ts';
import { workspace } from '../sandbox/environment.ts';
import { runInside, type CommandHost } from '../sandbox/run-inside.ts';
import type { Tree } from '../workspace/change-set.ts';
import { ancestorsOf } from '../workspace/diff.ts';
import type { Scope } from '../workspace/scope/scope.ts';
import { resultsDir } from './setup-script.ts';

/**
 * Brings what setup left in its workspace (a `node_modules`) into the run's, as the tools' own. Only scratch paths, and no
 * directory above them that is not there: nothing of an environment is ever a change of the agent's. Copied, not linked:
 * programs write into such directories.
 */
export async function offerResults(sandbox: CommandHost, scope: Scope, base: { readonly tree: Tree }): Promise<void> {
  const chosen: string[] = [];
  for (let places: readonly string[] = ['']; places.length > 0;) {
    const found = scratchOf(await listBelow(sandbox, places), scope);
    chosen.push(...found.whole.filter((path) => hasPlace(path, scope, base.tree)));
    places = found.undecided;
  }
  if (chosen.length === 0) return;
  // A link of the workspace that is in the way is replaced, not written through.
  const copy = `cp -a --no-preserve=ownership --remove-destination --parents -t ${workspace} --`;
  const { outcome, said } = await runInside(sandbox, {
    command: { kind: 'script', script: `cd ${resultsDir} && xargs -0 ${copy}` },
    stdin: { kind: 'bytes', bytes: zeroEnded(chosen) },
    killAfterMs: copyingMs,
  });
  if (outcome.kind === 'exited' && outcome.code === 0) return;
  throw new RunnerError(
    'policy_unenforceable',
    `the environment's ${chosen.slice(0, 5).join(', ')} cannot be copied into the workspace (${outcome.kind}): ${said.toString('utf8').trim()}; give limits.workspace and limits.workspace_files room for them`,
  );
}

interface Found {
  readonly path: string;
  readonly isDirectory: boolean;
  readonly isDeepest: boolean;
}

/** A few levels of it, from these directories down. */
async function listBelow(sandbox: CommandHost, places: readonly string[]): Promise<readonly Found[]> {
  const find = `find "$@" -mindepth 1 -maxdepth ${levelsAtOnce} -printf "%d%y%p\\0"`;
  const { outcome, said } = await runInside(
    sandbox,
    {
      command: { kind: 'script', script: `cd ${resultsDir} && xargs -0 sh -c 'exec ${find}' find` },
      stdin: { kind: 'bytes', bytes: zeroEnded(places.map((place) => `./${place}`)) },
    },
    listingBytesMax,
  );
  if (outcome.kind !== 'exited' || outcome.code !== 0 || said.length >= listingBytesMax)
    throw new RunnerError(
      'policy_unenforceable',
      `what the environment's setup left in its workspace cannot be listed (${outcome.kind}, ${said.length} bytes); build it again with --rebuild, or take exclusions (!) out of files.scratch, so that fewer files have to be looked at`,
    );
  const lines = decodePath(said).split('\0').slice(0, -1);
  return lines.map((line) => ({
    path: line.slice('1d./'.length),
    isDirectory: line.charAt(1) === 'd',
    isDeepest: line.charAt(0) === `${levelsAtOnce}`,
  }));
}

/** The topmost paths with nothing but scratch in them, and scratch directories of which the globs alone do not tell. */
function scratchOf(
  listing: readonly Found[],
  scope: Scope,
): { readonly whole: readonly string[]; readonly undecided: readonly string[] } {
  const whole = new Set<string>();
  const undecided: string[] = [];
  for (const { path, isDirectory, isDeepest } of listing.toSorted((a, b) => (a.path < b.path ? -1 : 1))) {
    if (!scope.isScratch(path) || ancestorsOf(path).some((above) => whole.has(above))) continue;
    if (!isDirectory || scope.isScratchBelow(path)) whole.add(path);
    else if (isDeepest) undecided.push(path);
  }
  return { whole: [...whole], undecided };
}

/** Whether all above it is a directory of the workspace, or may be made without being a change. */
function hasPlace(path: string, scope: Scope, tree: Tree): boolean {
  return ancestorsOf(path).every((above) => {
    const there = tree.get(above);
    return there === undefined ? scope.isScratch(above) : there.kind === 'directory';
  });
}

function zeroEnded(paths: readonly string[]): Uint8Array {
  return encodePath(paths.map((path) => `${path}\0`).join(''));
}

const levelsAtOnce = 3;
const listingBytesMax = 8 * 1024 * 1024;
const copyingMs = 300_000;
