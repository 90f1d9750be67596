import type { Command } from 'commander';
import type { Run } from '../../runner.ts';
import type { ToolCallInput } from '../../tools/tool-call.ts';
import type { ToolResult } from '../../tools/tool-result.ts';
import { Exit, type CliContext } from '../context.ts';
import { exitOf } from './exit-of.ts';
import { wholeNumber } from '../numbers.ts';
import { inRun, withRunOptions, type RunOptions } from './open-run.ts';
import { streamOutput } from './stream-output.ts';
import { closingLines, runSummary } from './summary.ts';
import { printJson, say } from '../terminal.ts';

interface Options extends RunOptions {
  readonly timeout?: number;
  readonly interactive?: boolean;
}

export function runCommand(program: Command, context: CliContext): void {
  withRunOptions(program.command('run'))
    .description(
      "run one command in a sandbox; the exit code is the command's own (124 timed out, 125 glovebox failed, 126 not executable, 127 not found, 137 killed)",
    )
    .argument('<cmd...>', 'the command and its arguments, after --')
    .option(
      '-t, --timeout <ms>',
      "end the command after this many milliseconds (default and ceiling: the policy's)",
      wholeNumber(1),
    )
    .option('--stdin', 'pass this standard input on')
    .passThroughOptions()
    .action(async (argv: string[], options: Options & { stdin?: boolean }) => {
      const { value, run } = await inRun(context, { ...options, stdinIsTaken: options.stdin === true }, (opened) =>
        execute(opened, argv, options),
      );
      if (options.json === true) printJson({ ...(await runSummary(context, run)), result: value });
      else if (options.quiet !== true) for (const line of await closingLines(context, run)) say(line);
      throw new Exit(exitOf(value, run.summary));
    });
}

const callId = 'command';

async function execute(run: Run, argv: string[], options: Options & { stdin?: boolean }): Promise<ToolResult> {
  const killAfterMs = options.timeout ?? run.policy.policy.limits.commandTimeoutMs;
  const [program = '', ...rest] = argv;
  const call = {
    tool: 'exec',
    argv: [program, ...rest],
    killAfterMs,
    yieldMs: 0,
    keepStdinOpen: options.stdin === true,
  } satisfies ToolCallInput;
  const first = await run.call(callId, call);
  const command = run.findCommand(callId);
  if (command === undefined) return first;
  if (options.json !== true) await streamOutput(command, options.stdin === true);
  await command.ended;
  return run.poll(callId, 1000);
}
