import { RunnerError } from '../errors.ts';
import { decodePath, encodePath } from '../bytes-path.ts';
import { workspace } from '../sandbox/environment.ts';
import { runInside, type CommandHost } from '../sandbox/run-inside.ts';
import type { Scope } from '../workspace/scope.ts';
import { resultsDir } from './setup-script.ts';

/**
 * Brings what setup left in its workspace (a `node_modules`) into the run's, as the tools' own. Only scratch paths: nothing
 * of an environment is ever a change of the agent's. Copied, not linked: programs write into such directories.
 */
export async function offerResults(sandbox: CommandHost, scope: Scope): Promise<void> {
  const found = await runInside(
    sandbox,
    {
      command: {
        kind: 'argv',
        argv: ['find', resultsDir, '-mindepth', '1', '-maxdepth', `${depthMax}`, '-printf', '%y%P\\0'],
      },
    },
    listingBytesMax,
  );
  const chosen = scratchOf(decodePath(found.said).split('\0'), scope);
  if (chosen.length === 0) return;
  const script = `cd ${resultsDir} && xargs -0 cp -a --no-preserve=ownership --parents -t ${workspace} --`;
  const { outcome, said } = await runInside(sandbox, {
    command: { kind: 'script', script },
    stdin: { kind: 'bytes', bytes: encodePath(chosen.map((name) => `${name}\0`).join('')) },
    killAfterMs: copyingMs,
  });
  if (outcome.kind === 'exited' && outcome.code === 0) return;
  throw new RunnerError(
    'policy_unenforceable',
    `the environment's ${chosen.slice(0, 5).join(', ')} cannot be copied into the workspace (${outcome.kind}): ${said.toString('utf8').trim()}; give limits.workspace and limits.workspace_files room for them`,
  );
}

/** The topmost scratch paths among them. */
function scratchOf(listing: readonly string[], scope: Scope): readonly string[] {
  const chosen = new Set<string>();
  const paths = listing.map((line) => ({ directory: line.startsWith('d'), path: line.slice(1) }));
  for (const { directory, path } of paths.sort((a, b) => (a.path < b.path ? -1 : 1))) {
    const parents = path.split('/').map((_, at, names) => names.slice(0, at).join('/'));
    if (path === '' || parents.some((parent) => chosen.has(parent))) continue;
    if (
      scope.classOf(directory ? `${path}/x` : path) === 'scratch' &&
      (!directory || scope.classOf(path) === 'scratch')
    )
      chosen.add(path);
  }
  return [...chosen];
}

const depthMax = 3;
const listingBytesMax = 8 * 1024 * 1024;
const copyingMs = 300_000;
