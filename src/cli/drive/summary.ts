import pc from 'picocolors';
import type { DiffView } from '../../contract/diff-view.ts';
import { isRunnerError } from '../../errors.ts';
import { printable } from '../../journal/printable.ts';
import type { Setback } from '../../promotion/rolled-back.ts';
import type { Run } from '../../runner.ts';
import { exportDocument } from '../../runner.ts';
import { candidateLines } from '../candidate-lines.ts';
import type { CliContext } from '../context.ts';
import { setbackLines } from '../setback-lines.ts';

/** What a script wants to know of a closed run. */
export async function runSummary(context: CliContext, run: Run): Promise<Record<string, unknown>> {
  const diff = diffOf(run) ?? null;
  return {
    run: run.id,
    state: diff === null ? 'lost' : 'closed',
    directory: run.dir.path,
    remaining: run.remaining(),
    diff,
    setbacks: diff === null ? [] : await setbacksOf(context, run, diff).catch(() => null),
  };
}

/** What a person wants to see when a run has ended. */
export async function closingLines(context: CliContext, run: Run): Promise<readonly string[]> {
  const diff = diffOf(run);
  if (diff !== undefined) return candidateLines(run.id, diff, await earlierLines(context, run, diff));
  return ['', pc.red(`run ${run.id}: the sandbox was lost; the journal says why: glovebox log ${run.id}`)];
}

/** The run has ended well, whatever the records of others are. */
async function earlierLines(context: CliContext, run: Run, diff: DiffView): Promise<readonly string[]> {
  try {
    return setbackLines(await setbacksOf(context, run, diff));
  } catch (error) {
    if (!isRunnerError(error)) throw error;
    return [`  ${pc.red('what was rolled back before cannot be read')}: ${printable(error.message)}`];
  }
}

async function setbacksOf(context: CliContext, run: Run, { changes }: DiffView): Promise<readonly Setback[]> {
  const paths = changes.map(({ path }) => path);
  const { setbacksOfRun } = await import('../../promotion/rolled-back.ts'); // with a database, which a command line waits for
  return setbacksOfRun(await context.openDataDir(), run.dir, paths);
}

function diffOf(run: Run): DiffView | undefined {
  return run.candidate === undefined ? undefined : exportDocument(run.candidate, run.policy.digest);
}
