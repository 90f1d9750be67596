import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { CodexEnvironment } from '../../bridge/codex/serve.ts';
import type { CliContext } from '../context.ts';
import { LateRun, serveRun } from './late-run.ts';
import { withRunOptions, type RunOptions } from './open-run.ts';
import { closingLines } from './summary.ts';
import { say } from '../terminal.ts';

export function bridgeCommand(program: Command, context: CliContext): void {
  const bridge = program
    .command('bridge')
    .description('a sandbox as what another harness takes for its own surroundings');
  withRunOptions(bridge.command('codex'))
    .description(
      'a remote environment of a Codex CLI, on standard input and output; its diff stays when Codex has gone',
    )
    .action(async (options: RunOptions) => {
      const door = new LateRun();
      const environment = new CodexEnvironment(door.opened, await spellingsOf(options.workspace));
      const served = environment.serve(process.stdin, process.stdout);
      const run = await serveRun(context, { ...options, stdinIsTaken: true }, door, served);
      if (options.quiet !== true) for (const line of await closingLines(context, run)) say(line);
    });
}

/** As it was named, and as it really is: Codex may use either. */
async function spellingsOf(workspace: string | undefined): Promise<string[]> {
  if (workspace === undefined) return [];
  const named = resolve(workspace);
  const real = await realpath(named).catch(() => named); // opening the run says what is wrong with it
  return [...new Set([named, real])];
}
