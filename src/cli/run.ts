import type { Command } from 'commander';
import { exitCodeOf, type Outcome } from '../sandbox/outcome.ts';
import type { Run } from '../runner.ts';
import { describeDenied } from '../tools/exec-text.ts';
import type { ToolCallInput } from '../tools/tool-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import { printable } from '../journal/printable.ts';
import { Exit, exitCodes, type CliContext } from './context.ts';
import { wholeNumber } from './numbers.ts';
import { inRun, withRunOptions, type RunOptions } from './open-run.ts';
import { streamOutput } from './stream-output.ts';
import { closingLines, runSummary } from './summary.ts';
import { printJson, say } from './terminal.ts';

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
      if (options.json === true) printJson({ ...runSummary(run), result: value });
      else if (options.quiet !== true) for (const line of closingLines(run)) say(line);
      throw new Exit(exitOf(value));
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

function exitOf(result: ToolResult): number {
  if (result.data?.kind === 'exec' && result.data.outcome !== null) {
    explain(result.data.outcome);
    for (const line of describeDenied(result.data.egressDenied)) say(`glovebox: ${printable(line)}`);
    return exitCodeOf(result.data.outcome);
  }
  say(`glovebox: ${printable(result.text, { newlines: 'keep' })}`);
  return exitCodes.runner;
}

/** An exit code that the command did not choose is explained. */
function explain(outcome: Outcome): void {
  switch (outcome.kind) {
    case 'exited':
      return;
    case 'not_started':
      return say(`glovebox: the command did not start: ${printable(outcome.message)}`);
    case 'timed_out':
      return say(`glovebox: ended after ${outcome.afterMs} ms (--timeout, or limits.command_timeout in the policy)`);
    case 'idle_timed_out':
      return say(`glovebox: ended after ${outcome.afterMs} ms without output (limits.idle_timeout in the policy)`);
    case 'out_of_memory':
      return say(`glovebox: out of memory at ${outcome.limitBytes} bytes (limits.memory in the policy)`);
    case 'pids_limit':
      return say(`glovebox: no more than ${outcome.limit} processes (limits.pids in the policy)`);
    case 'disk_full':
      return say(
        `glovebox: no space left on ${outcome.where.join(', ')} (limits.workspace and limits.tmp in the policy)`,
      );
    case 'output_limit':
      return say(`glovebox: ended after ${outcome.limitBytes} bytes of output (limits.output_per_call in the policy)`);
    case 'signaled':
      return say(`glovebox: the command was ended by signal ${outcome.signal}`);
    case 'cancelled':
      return say('glovebox: cancelled');
    case 'denied':
      return say(`glovebox: denied: ${outcome.reason} (rule ${outcome.rule})`);
    case 'sandbox_lost':
      return say(`glovebox: the sandbox was lost: ${printable(outcome.reason)}`);
  }
}
