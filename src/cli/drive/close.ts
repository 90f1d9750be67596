import type { Command } from 'commander';
import pc from 'picocolors';
import { candidateLines } from '../candidate-lines.ts';
import { exitCodes, Exit, type CliContext } from '../context.ts';
import { findRemoteRun } from '../find-run.ts';
import { openService } from '../service.ts';
import { setbackLines } from '../setback-lines.ts';
import { printJson, say } from '../terminal.ts';

export function closeCommand(program: Command, _context: CliContext): void {
  program
    .command('close')
    .description('end an open run: what still runs is ended, the diff is taken, the sandbox removed')
    .argument('<run>', 'name, id, or the beginning of one')
    .option('--failed', 'on record as failed')
    .option('--cancelled', 'on record as cancelled')
    .option('-m, --summary <text>', 'a last word, for the record')
    .option('-q, --quiet', 'say nothing of what changed')
    .option('--json', 'the run and its diff as JSON')
    .action(async (name: string, options: Options) => {
      const client = await openService();
      try {
        const run = await findRemoteRun(client, name);
        const { summary } = options;
        const reason = options.cancelled === true ? 'cancelled' : options.failed === true ? 'failed' : 'finished';
        const view = await run.close({ reason, ...(summary === undefined ? {} : { summary }) });
        const diff = view.outcome === 'lost' ? null : await run.diff();
        const setbacks = diff === null ? [] : await run.setbacks();
        if (options.json === true) printJson({ run: view, diff, setbacks });
        else if (diff === null) say(pc.red(`run ${run.id}: the sandbox was lost; glovebox log ${run.id} says why`));
        else if (options.quiet !== true)
          for (const line of candidateLines(run.id, diff, setbackLines(setbacks))) say(line);
        throw new Exit(view.outcome === 'lost' ? exitCodes.failed : exitCodes.ok);
      } finally {
        await client.close();
      }
    });
}

interface Options {
  readonly failed?: boolean;
  readonly cancelled?: boolean;
  readonly summary?: string;
  readonly quiet?: boolean;
  readonly json?: boolean;
}
