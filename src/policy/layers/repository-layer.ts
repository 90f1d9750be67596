import { stat } from 'node:fs/promises';
import { RunnerError } from '../../errors.ts';
import { askGit } from '../../workspace/base/host-git.ts';
import { refuse } from './check-chain.ts';
import { repositoryProblems } from './check-egress.ts';
import { compileOptions, loadChain, policyFor, withLayer } from '../policy.ts';
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
  const text = workspace === undefined ? undefined : await committedPolicy(workspace);
  if (text === undefined) return policyFor(chain, task, await compileOptions(chain));
  const layer = parseSourceFile(text, `HEAD:${repositoryPolicyPath}`);
  if (layer.file.extends !== undefined)
    throw new RunnerError(
      'invalid_policy',
      `${layer.placeOf(['extends'])}: extends: what is above a repository's policy is said by whoever opens the run`,
    );
  refuse(repositoryProblems(chain, layer));
  return policyFor(withLayer(chain, layer), task, await compileOptions(chain));
}

/** Undefined: no repository, no commit, or no such file in it. */
async function committedPolicy(workspace: string): Promise<string | undefined> {
  const isDirectory = await stat(workspace).then(
    (found) => found.isDirectory(),
    () => false, // what is wrong with it is said where it is opened
  );
  if (!isDirectory) return undefined;
  const name = `HEAD:./${repositoryPolicyPath}`;
  const there = await askGit(workspace, ['cat-file', '-t', name]);
  if (there.code !== 0) return undefined;
  const answer = await askGit(workspace, ['cat-file', 'blob', name]);
  if (answer.code === 0) return answer.stdout.toString('utf8');
  throw new RunnerError('invalid_policy', `${name} in ${workspace} cannot be read: ${answer.stderr}`);
}
