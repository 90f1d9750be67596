import type { Outcome } from '../sandbox/outcome.ts';
import type { ExecData } from './tool-result.ts';

/** One line on how a call stands, for a reader. */
export function describeExec(data: ExecData, callId: string): string {
  if (data.outcome === null) return `Still running; wait for it with exec_poll(callId ${callId}).`;
  const session =
    data.session !== null && !data.session.saved ? `\nShell state was not saved: ${data.session.reason}.` : '';
  const left = data.descendantsAlive === 0 ? '' : `\n${data.descendantsAlive} processes outlived the command.`;
  return describeOutcome(data.outcome) + left + session;
}

function describeOutcome(outcome: Outcome): string {
  switch (outcome.kind) {
    case 'exited':
      return `Exit code ${outcome.code}.`;
    case 'signaled':
      return `Ended by signal ${outcome.signal}.`;
    case 'not_started':
      return `Not started: ${outcome.message}`;
    case 'timed_out':
      return `Timed out after ${outcome.afterMs} ms; it was ended with all its processes.`;
    case 'idle_timed_out':
      return `No output for ${outcome.afterMs} ms; it was ended with all its processes.`;
    case 'cancelled':
      return 'Cancelled; it was ended with all its processes.';
    case 'output_limit':
      return `Ended after ${outcome.limitBytes} bytes of output.`;
    case 'out_of_memory':
      return `Out of memory: the limit is ${outcome.limitBytes} bytes.`;
    case 'pids_limit':
      return `Could not fork: at most ${outcome.limit} processes. Exit code ${outcome.code}.`;
    case 'disk_full':
      return `No space left on ${outcome.where.join(', ')}. Exit code ${outcome.code}.`;
    case 'denied':
      return `Denied by rule ${outcome.rule}: ${outcome.reason}`;
    case 'sandbox_lost':
      return `The sandbox was lost: ${outcome.reason}. How the command ended is not known.`;
  }
}
