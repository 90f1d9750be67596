import type { Command } from 'commander';
import { RunnerError } from '../../errors.ts';
import type { Run } from '../../runner.ts';
import { exitCodeOf } from '../../sandbox/outcome.ts';
import { Exit, exitCodes, type CliContext } from '../context.ts';
import { inRun, withRunOptions, type RunOptions } from './open-run.ts';
import { streamOutput } from './stream-output.ts';
import { closingLines } from './summary.ts';
import { say } from '../terminal.ts';

export function shellCommand(program: Command, context: CliContext): void {
  withRunOptions(program.command('shell'))
    .description('an interactive shell in a sandbox; leave it with exit or Ctrl-D, the diff and the journal stay')
    .option('--shell <path>', 'which shell (default: bash, else sh)')
    .action(async (options: RunOptions & { shell?: string }) => {
      if (!process.stdin.isTTY)
        throw new RunnerError(
          'invalid_request',
          'glovebox shell wants a terminal on its standard input; use glovebox run or glovebox play in scripts',
        );
      const { value, run } = await inRun(context, options, (opened) => interact(opened, options.shell));
      for (const line of await closingLines(context, run)) say(line);
      throw new Exit(value);
    });
}

async function interact(run: Run, shell: string | undefined): Promise<number> {
  const script =
    shell === undefined
      ? 'command -v bash >/dev/null 2>&1 && exec bash -i; exec sh -i'
      : `exec ${JSON.stringify(shell)}`;
  const size = () => ({ columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 });
  const limitMs = run.policy.policy.limits.commandTimeoutMs;
  const result = await run.call('shell', {
    tool: 'exec',
    argv: ['/bin/sh', '-c', script],
    tty: size(),
    yieldMs: 0,
    killAfterMs: limitMs,
  });
  const command = run.findCommand('shell');
  if (command === undefined) {
    say(`glovebox: ${result.text}`);
    return exitCodes.runner;
  }
  const onResize = () => command.resize(size().columns, size().rows);
  process.stdin.setRawMode(true);
  process.stdout.on('resize', onResize);
  try {
    await streamOutput(command, true);
  } finally {
    process.stdout.off('resize', onResize);
    if (!process.stdin.destroyed) process.stdin.setRawMode(false);
  }
  return exitCodeOf((await command.ended).outcome);
}
