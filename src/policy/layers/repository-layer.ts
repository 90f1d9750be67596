import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { RunnerError } from '../../errors.ts';
import { askGit } from '../../workspace/base/host-git.ts';
import { RealDirectories } from '../../workspace/base/real-directories.ts';
import { refuse } from './check-chain.ts';
import { repositoryProblems } from './check-egress.ts';
import { compileOptions, loadChain, policyFor, readText, withLayer } from '../policy.ts';
import type { LoadedPolicy } from './effective-policy.ts';
import type { TaskRequest } from './restriction.ts';
import { parseSourceFile, type SourceFile } from '../language/source-file.ts';

/** Where a repository says what runs on it may do; as the last of the files, so that it can only narrow. */
const repositoryPolicyPath = '.glovebox/policy.yaml';

/**
 * A policy for runs on a directory: with what its repository says, as it was committed, never as it stands in the work tree.
 * A change to that file therefore holds for the run after the next commit.
 */
export async function loadPolicyFor(
  pathOrName: string,
  workspace: string | undefined,
  task: TaskRequest = {},
  load: (pathOrName: string) => Promise<readonly SourceFile[]> = loadChain,
): Promise<LoadedPolicy> {
  const chain = await load(pathOrName);
  const places = workspace === undefined ? [] : [{ committedIn: workspace }];
  const narrowed = await withRepositoryLayer(chain, places);
  return policyFor(narrowed, task, await compileOptions(chain));
}

/** Where a repository's own policy is found: the commit of a work tree, or the file itself of a tree that has no commits. */
export type RepositoryPolicy = { readonly committedIn: string } | { readonly fileIn: string };

/** These files, and as the last of them, which can only narrow, what the first of the places has. Throws `invalid_policy`. */
export async function withRepositoryLayer(
  chain: readonly SourceFile[],
  places: readonly RepositoryPolicy[],
): Promise<readonly SourceFile[]> {
  let found: FoundPolicy | undefined;
  for (const place of places)
    found ??= await ('committedIn' in place ? committedPolicy(place.committedIn) : filePolicy(place.fileIn));
  if (found === undefined) return chain;
  const layer = parseSourceFile(found.text, found.source);
  if (layer.file.extends !== undefined)
    throw new RunnerError(
      'invalid_policy',
      `${layer.placeOf(['extends'])}: extends: what is above a repository's policy is said by whoever opens the run`,
    );
  refuse(repositoryProblems(chain, layer));
  return withLayer(chain, layer);
}

interface FoundPolicy {
  readonly text: string;
  readonly source: string;
}

/** Undefined: no repository, no commit, or no such file in it. */
async function committedPolicy(workspace: string): Promise<FoundPolicy | undefined> {
  const isDirectory = await stat(workspace).then(
    (found) => found.isDirectory(),
    () => false, // what is wrong with it is said where it is opened
  );
  if (!isDirectory) return undefined;
  const name = `HEAD:./${repositoryPolicyPath}`;
  const there = await askGit(workspace, ['cat-file', '-t', name]);
  if (there.code !== 0) return undefined;
  const answer = await askGit(workspace, ['cat-file', 'blob', name]);
  if (answer.code === 0) return { text: answer.stdout.toString('utf8'), source: `HEAD:${repositoryPolicyPath}` };
  throw new RunnerError('invalid_policy', `${name} in ${workspace} cannot be read: ${answer.stderr}`);
}

/** Of a tree of somebody else's making: no link is followed to it. Undefined: there is no such file. */
async function filePolicy(tree: string): Promise<FoundPolicy | undefined> {
  if (new RealDirectories(tree).lookAt(repositoryPolicyPath)?.isFile() !== true) return undefined;
  const file = join(tree, repositoryPolicyPath);
  return { text: await readText(file), source: repositoryPolicyPath };
}
