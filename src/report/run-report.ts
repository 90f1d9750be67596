import type { DiffView } from '../contract/diff-view.ts';
import { errorTable, isErrorCode } from '../errors.ts';
import type { Failure } from '../failures/failure.ts';
import { RunFailures } from '../failures/run-failures.ts';
import type { Entry, EntryData, EntryOutcome } from '../journal/entry.ts';

import type { GateResult, Verification } from '../verify/verification.ts';

/** What can be held against a run. Each is one rule of the SARIF log and one failure of the JUnit file. */
export const violationRules = {
  'call-denied': { level: 'error', text: 'The policy, a budget or a person denied a tool call.' },
  'egress-denied': { level: 'error', text: 'Something was asked of the network that the policy does not allow.' },
  'change-refused': { level: 'error', text: 'A change was not exported because it cannot be a safe one.' },
  'change-not-seen': {
    level: 'error',
    text: 'Something in the workspace could not be looked at: the diff is not complete.',
  },
  'change-outside-scope': {
    level: 'error',
    text: 'Something outside the write scope was changed; it was not exported.',
  },
  'change-held-back': {
    level: 'warning',
    text: 'A change was proposed and left behind: nobody approved it, or it may only be proposed.',
  },
  'command-failed': { level: 'warning', text: 'A command ended in another way than with exit code 0.' },
  'gate-failed': {
    level: 'error',
    text: 'A gate of the verification has failed: the candidate is not to be put to use.',
  },
  'gate-broken': { level: 'error', text: 'A gate of the verification could not be judged; it denies.' },
  'gate-needs-review': {
    level: 'warning',
    text: 'A gate of the verification has found something for a person to look at.',
  },
  'run-not-finished': { level: 'error', text: 'The run was not closed as finished.' },
} as const satisfies Record<string, { level: Level; text: string }>;

export type Level = 'error' | 'warning';
export type ViolationRule = keyof typeof violationRules;

export interface Violation {
  readonly rule: ViolationRule;
  /** Text of the sandbox may be in it: show it escaped. */
  readonly message: string;
  /** The line of the journal that says it, where one does. */
  readonly seq?: number;
  readonly callId?: string;
  /** In the workspace. */
  readonly path?: string;
  /** Of a verification. */
  readonly gate?: string;
  /** Of which class it is, who has to act, and whether doing it again may help. */
  readonly failure?: Pick<Failure, 'class' | 'attribution' | 'retryable'>;
}

/** One tool call. */
export interface ReportedCall {
  readonly callId: string;
  readonly tool: string;
  readonly ms: number;
  readonly violations: readonly Violation[];
}

/** What a run comes to for whoever has to say yes or no to it. */
export interface RunReport {
  readonly run: string;
  readonly policy: string;
  readonly openedAt: string;
  readonly endedAt: string;
  readonly ms: number;
  /** finished, failed, cancelled, lost; `open` where the journal has no end. */
  readonly outcome: string;
  readonly calls: readonly ReportedCall[];
  /** Paths that leave the run. */
  readonly changes: readonly string[];
  readonly violations: readonly Violation[];
  /** Why things did not come out, by class; the first of them. */
  readonly failures: readonly Failure[];
  /** The newest, where it was verified. */
  readonly verification?: ReportedVerification;
}

export interface ReportedVerification {
  readonly id: string;
  readonly verdict: Verification['verdict'];
  readonly gates: readonly Pick<GateResult, 'id' | 'verdict' | 'required' | 'reason'>[];
}

/** From its journal, its diff where it has one, and its verification; bounded by what those are. */
export async function reportOf(
  entries: AsyncIterable<Entry> | Iterable<Entry>,
  diff: DiffView | undefined,
  verification?: Verification,
): Promise<RunReport> {
  const failures = new RunFailures();
  const calls = new Map<string, { tool: string; ms: number; violations: Violation[] }>();
  const violations: Violation[] = [];
  const about = { run: '', policy: '', openedAt: '', endedAt: '', ms: 0, outcome: 'open' };
  const add = (violation: Violation): void => {
    violations.push(violation);
    if (violation.callId !== undefined) calls.get(violation.callId)?.violations.push(violation);
  };
  let lastSeq = 0;
  for await (const entry of entries) {
    lastSeq = entry.seq;
    failures.add(entry);
    about.endedAt = entry.at;
    about.ms = entry.mono;
    if (entry.type === 'run.opened')
      Object.assign(about, { run: entry.run, policy: entry.data.policy.name, openedAt: entry.at });
    if (entry.type === 'call.intended' || entry.type === 'call.denied') {
      const { callId, tool } = entry.data;
      if (!calls.has(callId)) calls.set(callId, { tool, ms: 0, violations: [] });
    }
    if (entry.type === 'call.ended') Object.assign(calls.get(entry.data.callId) ?? {}, { ms: entry.data.ms });
    if (entry.type === 'run.closed') about.outcome = entry.data.outcome;
    const found = violationIn(entry);
    if (found !== undefined) add({ ...found, seq: entry.seq, ...classOf(failures.find(`call ${found.callId ?? ''}`)) });
  }
  if (about.outcome === 'open')
    add({ rule: 'run-not-finished', message: 'the journal has no end: the run is open', seq: lastSeq });
  for (const violation of diff === undefined ? [] : violationsOf(diff)) add(violation);
  for (const violation of verification === undefined ? [] : violationsIn(verification)) add(violation);
  return {
    ...about,
    failures: [...failures.list(), ...(verification?.failures ?? [])],
    ...(verification === undefined ? {} : { verification: reported(verification) }),
    calls: [...calls].map(([callId, call]) => ({ callId, ...call })),
    changes: diff?.changes.map(({ path }) => path) ?? [],
    violations,
  };
}

function classOf(found: Failure | undefined): Pick<Violation, 'failure'> {
  if (found === undefined) return {};
  const { class: kind, attribution, retryable } = found;
  return { failure: { class: kind, attribution, retryable } };
}

function reported({ id, verdict, gates }: Verification): ReportedVerification {
  return {
    id,
    verdict,
    gates: gates.map((gate) => ({
      id: gate.id,
      verdict: gate.verdict,
      required: gate.required,
      reason: gate.reason,
    })),
  };
}

const gateRules = { failed: 'gate-failed', broken: 'gate-broken', needs_review: 'gate-needs-review' } as const;

/** Of gates that are required; the others are only told. */
function violationsIn({ gates, failures }: Verification): readonly Violation[] {
  return gates.flatMap(({ id, verdict, required, reason }) => {
    if (!required || verdict === 'passed') return [];
    const found = failures.find(({ where }) => where === `gate ${id}`);
    return [{ rule: gateRules[verdict], gate: id, message: `gate ${id}: ${reason}`, ...classOf(found) }];
  });
}

export function levelOf({ rule }: Violation): Level {
  return violationRules[rule].level;
}

function violationIn(entry: Entry): Violation | undefined {
  switch (entry.type) {
    case 'call.denied': {
      const { callId, tool, rule, reason } = entry.data;
      return { rule: 'call-denied', callId, message: `${tool} was denied by ${rule}: ${reason}` };
    }
    case 'call.ended':
      return failureIn(entry.data);
    case 'egress.decided':
      return entry.data.decision === 'denied' ? deniedIn(entry.data) : undefined;
    case 'egress.counted': {
      const { host, reason, count } = entry.data;
      return { rule: 'egress-denied', message: `${count} more were refused (${host}): ${reason}` };
    }
    case 'run.closed': {
      const { outcome, summary } = entry.data;
      if (outcome === 'finished') return undefined;
      return {
        rule: 'run-not-finished',
        message: `the run was closed as ${outcome}${summary === '' ? '' : `: ${summary}`}`,
      };
    }
    default:
      return undefined;
  }
}

function failureIn({ callId, outcome, exitCode, error }: EntryData<'call.ended'>): Violation | undefined {
  if (outcome.kind === 'done' || (outcome.kind === 'exited' && outcome.code === 0)) return undefined;
  // A file that is not there is an answer for the agent; what the runner failed at is not.
  if (outcome.kind === 'failed' && !isOurFault(error?.code)) return undefined;
  const why = error === undefined ? '' : `: ${error.code}: ${error.message}`;
  const code = exitCode === undefined || outcome.kind === 'exited' ? '' : `, exit code ${exitCode}`;
  return { rule: 'command-failed', callId, message: `call ${callId} ${outcomeText(outcome)}${code}${why}` };
}

function isOurFault(code: string | undefined): boolean {
  return isErrorCode(code) && errorTable[code].fault !== 'caller';
}

function outcomeText(outcome: EntryOutcome): string {
  return outcome.kind === 'exited' ? `ended with exit code ${outcome.code}` : `ended as ${outcome.kind}`;
}

function deniedIn({ callId, kind, host, port, method, path, rule, reason }: EntryData<'egress.decided'>): Violation {
  const where = `${host}${port === undefined ? '' : `:${port}`}`;
  const what = kind === 'request' ? `${method ?? ''} ${where}${path ?? ''}` : `${kind} ${where}`;
  const by = rule === undefined ? '' : ` by ${rule}`;
  const message = `${what} was denied${by}${reason === undefined ? '' : `: ${reason}`}`;
  return { rule: 'egress-denied', message, ...(callId === undefined ? {} : { callId }) };
}

function violationsOf({ findings, violations, held, complete }: DiffView): readonly Violation[] {
  const found: Violation[] = [];
  for (const { path, kind, effect, detail } of findings) {
    if (effect === 'noted') continue;
    const rule = effect === 'refused' ? 'change-refused' : 'change-not-seen';
    found.push({ rule, path, message: `${path}: ${kind}${detail === undefined ? '' : `: ${detail}`}` });
  }
  for (const { path, kind } of violations)
    found.push({ rule: 'change-outside-scope', path, message: `${path} was ${kind} outside the write scope` });
  for (const { path, why, approvals } of held) {
    const needs = approvals.length === 0 ? '' : `; it needs ${approvals.join(', ')}`;
    found.push({
      rule: 'change-held-back',
      path,
      message: `${path} was held back: ${why.replaceAll('_', ' ')}${needs}`,
    });
  }
  if (!complete && !found.some(({ rule }) => rule === 'change-not-seen'))
    found.push({ rule: 'change-not-seen', message: 'the diff is not complete' });
  return found;
}
