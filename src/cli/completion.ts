import tab from '@bomb.sh/tab/commander';
import type { Command } from 'commander';
import type { CliContext } from './context.ts';

const takeRun = ['diff', 'log', 'egress', 'forward', 'output', 'check'];

/** `source <(glovebox complete bash)`; zsh, fish and powershell likewise. Runs complete from the data directory. */
export async function addCompletion(program: Command, context: CliContext, argv: readonly string[]): Promise<void> {
  const completion = tab(program);
  if (argv[2] !== 'complete' || argv[3] !== '--') return;
  const runs = await (await context.openDataDir()).listRuns();
  for (const name of takeRun) {
    completion.commands.get(name)?.argument('run', (complete) => {
      for (const run of runs.slice(0, 50)) complete(run.id, 'run');
    });
  }
}
