import type { Outcome } from '../sandbox/outcome.ts';
import type { ExecData } from './tool-result.ts';

/** One line on how a call stands, for a reader. */
export function describeExec(data: ExecData, callId: string): string {
  const denied = describeDenied(data.egressDenied)
    .map((line) => `\n${line}`)
    .join('');
  if (data.outcome === null) return `Still running; wait for it with exec_poll(callId ${callId}).${denied}`;
  const session =
    data.session !== null && !data.session.saved ? `\nShell state was not saved: ${data.session.reason}.` : '';
  const left = data.descendantsAlive === 0 ? '' : `\n${data.descendantsAlive} processes outlived the command.`;
  return describeOutcome(data.outcome) + left + session + denied;
}

/** So many refusals are told in words; the data has more of them. */
const deniedMax = 5;

/** What was refused on the network, a line each, and what would allow more; nothing where nothing was. */
export function describeDenied(denied: ExecData['egressDenied']): readonly string[] {
  if (denied.length === 0) return [];
  const lines = denied.slice(0, deniedMax).map(({ host, port, method, path, rule, reason, count, certain }) => {
    const where = port === null ? `the name ${host}` : `${host}:${port}`;
    const what = method === null ? where : `${method} ${where}${path ?? ''}`;
    const often = count === 1 ? '' : `, ${count} times`;
    const by = rule === null ? '' : ` (${rule})`;
    return `- ${what}${often}: ${reason}${by}${certain ? '' : '; perhaps of another call'}`;
  });
  const more = denied.length > deniedMax ? [`- and ${denied.length - deniedMax} more`] : [];
  const hints = [...new Set(denied.map(({ hint }) => hint).filter((hint) => hint !== ''))].slice(0, 2);
  return ['Refused on the network by the policy of this run:', ...lines, ...more, ...hints];
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
