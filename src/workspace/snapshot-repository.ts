import { RunnerError } from '../errors.ts';
import { workspace } from '../sandbox/environment.ts';
import { runInside, type CommandHost } from '../sandbox/run-inside.ts';
import type { Files } from '../sandbox/spec.ts';

/**
 * A repository of one commit, the base, made by git inside the sandbox: for `git diff`, `status`, `stash` and commits of
 * the agent's own. Promises:
 *  - nothing of the host's repository is in it: no history, no remote, no hook, no configuration;
 *  - nothing of it is ever read back: the export does not look into `.git`, and measures against the base, not against it.
 */
export async function makeSnapshotRepository(
  sandbox: CommandHost & { readonly files: Pick<Files, 'unpack'> },
): Promise<void> {
  // The workspace itself may be closed to the tools; the directory is theirs.
  const directory = { path: '.git', type: 'directory', mode: 0o755, owner: 'tool' } as const;
  await sandbox.files.unpack('.', [directory], { owners: true });
  const { outcome, said } = await runInside(sandbox, {
    command: { kind: 'script', script },
    env: { ...snapshotRepositoryEnvironment, ...dates },
    killAfterMs: makingMs,
  });
  if (outcome.kind === 'exited' && outcome.code === 0) return;
  const why = outcome.kind === 'exited' ? `exit ${outcome.code}` : outcome.kind;
  throw new RunnerError(
    'policy_unenforceable',
    `files.git: git in the image could not make the repository (${why}): ${said.toString('utf8').trim()}; use an image with git, give limits.workspace room for a second copy of the files, or set files.git: false`,
  );
}

/** For every command of the run: the workspace and its `.git` may belong to two users. */
export const snapshotRepositoryEnvironment: Readonly<Record<string, string>> = {
  GIT_CONFIG_COUNT: '1',
  GIT_CONFIG_KEY_0: 'safe.directory',
  GIT_CONFIG_VALUE_0: workspace,
};

const makingMs = 300_000;

/** One base, one commit id. */
const dates = { GIT_AUTHOR_DATE: '315532800 +0000', GIT_COMMITTER_DATE: '315532800 +0000' };

/** With the threshold every content goes into one pack instead of a file each, which would count as files of the workspace. */
const script = `set -e
exec 2>&1
git init -q --template= --initial-branch=base .
git config user.name agent
git config user.email agent@sandbox.invalid
git config gc.auto 0
git -c core.bigFileThreshold=1 add --all --force .
git commit -q --allow-empty --no-verify -m 'What the run started from'
`;
