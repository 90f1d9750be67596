import pc from 'picocolors';
import type { DiffView } from '../contract/diff-view.ts';
import type { Run } from '../runner.ts';
import { exportDocument } from '../runner.ts';
import { candidateLines } from './candidate-lines.ts';

/** What a script wants to know of a closed run. */
export function runSummary(run: Run): Record<string, unknown> {
  return {
    run: run.id,
    state: run.candidate === undefined ? 'lost' : 'closed',
    directory: run.dir.path,
    remaining: run.remaining(),
    diff: diffOf(run) ?? null,
  };
}

/** What a person wants to see when a run has ended. */
export function closingLines(run: Run): string[] {
  const diff = diffOf(run);
  if (diff !== undefined) return candidateLines(run.id, diff);
  return ['', pc.red(`run ${run.id}: the sandbox was lost; the journal says why: glovebox log ${run.id}`)];
}

function diffOf(run: Run): DiffView | undefined {
  return run.candidate === undefined ? undefined : exportDocument(run.candidate, run.policy.digest);
}
