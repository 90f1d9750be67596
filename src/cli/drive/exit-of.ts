import { printable } from '../../journal/printable.ts';
import { exitCodeOf, type Outcome } from '../../sandbox/outcome.ts';
import { describeDenied } from '../../tools/exec-text.ts';
import type { ToolResult } from '../../tools/tool-result.ts';
import { exitCodes } from '../context.ts';
import { say } from '../terminal.ts';

/** The exit code that a command's result comes to; one that the command did not choose is explained. `why`: what its run was ended for. */
export function exitOf(result: Pick<ToolResult, 'data' | 'text'>, why = ''): number {
  if (result.data?.kind === 'exec' && result.data.outcome !== null) {
    explain(result.data.outcome, why);
    for (const line of describeDenied(result.data.egressDenied)) say(`glovebox: ${printable(line)}`);
    return exitCodeOf(result.data.outcome);
  }
  say(`glovebox: ${printable(result.text, { newlines: 'keep' })}`);
  return exitCodes.runner;
}

function explain(outcome: Outcome, why: string): void {
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
      return say(`glovebox: cancelled${why === '' ? '' : `: the run was ${printable(why)}`}`);
    case 'denied':
      return say(`glovebox: denied: ${outcome.reason} (rule ${outcome.rule})`);
    case 'sandbox_lost':
      return say(`glovebox: the sandbox was lost: ${printable(outcome.reason)}`);
  }
}
