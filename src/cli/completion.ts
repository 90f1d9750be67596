import tab from '@bomb.sh/tab/commander';
import type { Command } from 'commander';
import type { CliContext } from './context.ts';
import { listRuns, type RunRow } from './look/runs.ts';

/** Commands that take a run that is open, and those that take any. */
const takeOpen = ['exec', 'read', 'write', 'edit', 'patch', 'close', 'tail', 'forward'];
const takeAny = ['diff', 'log', 'egress', 'output', 'check', 'report'];
const offered = 50;

/** `source <(glovebox complete bash)`; zsh, fish and powershell likewise. Runs complete by name or id, from wherever the commands find them. */
export async function addCompletion(program: Command, context: CliContext, argv: readonly string[]): Promise<void> {
  const completion = tab(program);
  if (argv[2] !== 'complete' || argv[3] !== '--') return;
  const open = await offer(context, false);
  const any = await offer(context, true);
  for (const [names, runs] of [
    [takeOpen, open],
    [takeAny, any],
  ] as const)
    for (const name of names)
      completion.commands.get(name)?.argument('run', (complete) => {
        for (const { run, name: called, state, policy } of runs) complete(called ?? run, `${state}, ${policy}`);
      });
}

/** A service that does not answer completes nothing. */
async function offer(context: CliContext, all: boolean): Promise<readonly RunRow[]> {
  return listRuns(context, { number: offered, all }).catch(() => []);
}
