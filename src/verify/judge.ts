import { causeOfCode, causeOfDenial, causeOfOutcome, type Cause } from '../failures/causes.ts';
import { isErrorCode } from '../errors.ts';
import type { Outcome } from '../sandbox/outcome.ts';
import type { Attempt } from './attempt.ts';
import { namesOf, type TestReport } from './test-reports/test-report.ts';
import { failingMax, type Tests } from './verification.ts';
import { line } from './gates/gate-result.ts';

/** What one attempt says. `broken`: it says nothing of the candidate, and that is never a pass. */
export interface Said {
  readonly verdict: 'passed' | 'failed' | 'broken';
  readonly reason: string;
  readonly tests?: Tests;
  /** Of what did not pass. */
  readonly cause?: Cause;
  /** What it ran out of, or was refused; then `cause` is of that, and the tests say nothing. */
  readonly outside?: 'resources' | 'network';
}

/**
 * Reads one attempt. Promises:
 *  - only a command that ended by itself with 0, and whose report (where there is to be one) has cases and none that failed,
 *    has passed;
 *  - what it ran out of, and what it was refused on the network, is said before what its tests say.
 */
export function judge(attempt: Attempt): Said {
  switch (attempt.kind) {
    case 'refused':
      return {
        verdict: 'broken',
        reason: `the command was not let in: ${attempt.reason} (rule ${attempt.rule})`,
        // Nobody but the policy asked for it.
        cause: { ...causeOfDenial(attempt.rule), attribution: 'policy' },
      };
    case 'unavailable':
      return {
        verdict: 'broken',
        // Not the message: it may name places of this machine, and a verification goes to others.
        reason: `there was no sandbox for it (${attempt.code})`,
        cause: causeOfCode(isErrorCode(attempt.code) ? attempt.code : 'internal'),
      };
    case 'ended':
      return judgeEnded(attempt);
  }
}

function judgeEnded({ outcome, report, egressDenied }: Extract<Attempt, { kind: 'ended' }>): Said {
  const cause = causeOfOutcome(outcome);
  const tests = report?.kind === 'read' ? { tests: countsOf(report.report) } : {};
  if (cause?.class === 'infrastructure') return { verdict: 'broken', reason: outcomeText(outcome), cause };
  if (outcome.kind === 'not_started') return { verdict: 'broken', reason: outcomeText(outcome), ...causeOr(cause) };
  if (outcome.kind !== 'exited' && outcome.kind !== 'signaled')
    return { verdict: 'failed', reason: outcomeText(outcome), ...tests, ...causeOr(cause), outside: 'resources' };
  const shown = failureShown(outcome, report);
  if (shown === undefined) return { verdict: 'passed', reason: passText(tests.tests), ...tests };
  if (egressDenied.length > 0)
    return {
      verdict: 'failed',
      reason: `${shown}; it was refused on the network: ${egressDenied.slice(0, 3).join(', ')}`,
      ...tests,
      cause: { class: 'permission_mismatch', attribution: 'policy', retryable: false },
      outside: 'network',
    };
  const unread = report?.kind === 'unreadable' && outcome.kind === 'exited' && outcome.code === 0;
  return {
    verdict: unread ? 'broken' : 'failed',
    reason: shown,
    ...tests,
    cause: cause ?? { class: 'semantic_defect', attribution: 'agent', retryable: false },
  };
}

/** Undefined: nothing speaks against it. */
function failureShown(
  outcome: Outcome & { kind: 'exited' | 'signaled' },
  report: Extract<Attempt, { kind: 'ended' }>['report'],
): string | undefined {
  const ended = outcome.kind === 'exited' && outcome.code === 0 ? undefined : outcomeText(outcome);
  if (report === undefined) return ended;
  if (report.kind === 'unreadable') {
    const unread = `its report says nothing: ${report.why}`;
    return ended === undefined ? unread : `${ended}; ${unread}`;
  }
  const { passed, failed, failing } = countsOf(report.report);
  if (failed > 0) return `${failed} of ${report.report.cases.length} tests fail: ${failing.slice(0, 3).join(', ')}`;
  if (ended !== undefined) return `${ended}, though its report names no failing test`;
  return passed === 0 ? 'its report has no test that passed' : undefined;
}

function countsOf(report: TestReport): Tests {
  const count = (state: 'passed' | 'failed' | 'skipped'): number =>
    report.cases.filter((one) => one.state === state).length;
  const failing = [...new Set(namesOf(report, 'failed'))].slice(0, failingMax).map((name) => line(name));
  return { passed: count('passed'), failed: count('failed'), skipped: count('skipped'), failing };
}

function passText(tests: Tests | undefined): string {
  if (tests === undefined) return 'the command ended with 0';
  const skipped = tests.skipped === 0 ? '' : `, ${tests.skipped} skipped`;
  return `${tests.passed} tests pass${skipped}`;
}

function outcomeText(outcome: Outcome): string {
  switch (outcome.kind) {
    case 'exited':
      return `the command ended with ${outcome.code}`;
    case 'signaled':
      return `the command was ended by signal ${outcome.signal}`;
    case 'not_started':
      return `the command did not start: ${outcome.message}`;
    case 'timed_out':
    case 'idle_timed_out':
      return `the command was ended after ${outcome.afterMs} ms (timeout of the gate, or limits of the policy)`;
    case 'out_of_memory':
      return `the command ran out of memory at ${outcome.limitBytes} bytes`;
    case 'pids_limit':
      return `the command came to the limit of ${outcome.limit} processes`;
    case 'disk_full':
      return `the disk was full: ${outcome.where.join(', ')}`;
    case 'output_limit':
      return `the command printed more than ${outcome.limitBytes} bytes`;
    case 'cancelled':
      return 'the command was cancelled';
    case 'denied':
      return `the command was denied: ${outcome.reason}`;
    case 'sandbox_lost':
      return `the sandbox was lost: ${outcome.reason}`;
  }
}

function causeOr(cause: Cause | undefined): { readonly cause?: Cause } {
  return cause === undefined ? {} : { cause };
}
