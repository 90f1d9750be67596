import { errorTable, isErrorCode } from '../errors.ts';
import type { Entry, EntryData } from '../journal/entry.ts';
import { causeOfCode, causeOfDenial, causeOfOutcome, type Cause } from './causes.ts';
import { failureEvidence, type Failure } from './failure.ts';

/** Of one run: the first of them. */
export const failuresMax = 256;

/**
 * What failed in a run, read entry by entry. Promises:
 *  - of a command that failed, what it was refused on the network or got no answer from is said before its exit code;
 *  - each call has one failure at most; what nobody asked for again and again is told once.
 */
export class RunFailures {
  readonly #found = new Map<string, Failure>();
  /** What calls met on the network, by call. */
  readonly #met = new Map<string, Cause>();
  readonly #callOf = new Map<number, string>();

  add(entry: Entry): void {
    switch (entry.type) {
      case 'call.denied': {
        const { callId, tool, rule, reason } = entry.data;
        return this.#put(`call ${callId}`, causeOfDenial(rule), `${tool} was denied by ${rule}: ${reason}`);
      }
      case 'call.ended':
        return this.#ended(entry.data);
      case 'egress.decided':
        return this.#decided(entry.data);
      case 'egress.ended': {
        const callId = this.#callOf.get(entry.data.id);
        const cause = causeOfAnswer(entry.data);
        if (callId !== undefined && cause !== undefined) this.#met.set(callId, cause);
        return;
      }
      case 'approval.decided': {
        const { id, category, verdict, reason } = entry.data;
        if (verdict === 'approved') return;
        const cause = verdict === 'broken' ? lost : refused;
        return this.#put(`approval ${id}`, cause, `${category} was ${verdict}: ${reason}`);
      }
      case 'workspace.collected': {
        for (const [kind, count] of Object.entries(entry.data.findings))
          if (!harmlessFindings.has(kind))
            this.#put(
              `diff ${kind}`,
              kind === 'held_back' ? refused : outside,
              `${count} × ${kind.replaceAll('_', ' ')}`,
            );
        return;
      }
      case 'sandbox.lost':
        return this.#put('sandbox', lost, entry.data.reason);
      case 'journal.recovered':
        return this.#put('run', lost, entry.data.reason);
      case 'run.closed': {
        const { outcome, summary } = entry.data;
        if (outcome === 'failed' || outcome === 'lost') this.#put('run', lost, `closed as ${outcome}: ${summary}`);
        return;
      }
      default:
        return;
    }
  }

  list(): readonly Failure[] {
    return [...this.#found.values()];
  }

  find(where: string): Failure | undefined {
    return this.#found.get(where);
  }

  #ended({ callId, outcome, error }: EntryData<'call.ended'>): void {
    const code = error?.code;
    // A file that is not there is an answer for the agent; what the runner failed at is not.
    const ours = isErrorCode(code) && errorTable[code].fault !== 'caller' ? causeOfCode(code) : undefined;
    const cause = ours ?? causeOfOutcome(outcome);
    if (cause === undefined) return;
    const met = cause.class === 'semantic_defect' ? this.#met.get(callId) : undefined;
    const text = outcome.kind === 'exited' ? `ended with exit code ${outcome.code}` : `ended as ${outcome.kind}`;
    const why = error === undefined ? '' : `: ${error.code}: ${error.message}`;
    const network = met === undefined ? '' : '; on the network it was refused, or had no answer';
    this.#put(`call ${callId}`, met ?? cause, `${text}${why}${network}`);
  }

  #decided({ id, callId, decision, host, port, rule, reason }: EntryData<'egress.decided'>): void {
    if (callId !== undefined) this.#callOf.set(id, callId);
    if (decision !== 'denied') return;
    if (callId !== undefined)
      this.#met.set(callId, { class: 'permission_mismatch', attribution: 'policy', retryable: false });
    const to = `${host}${port === undefined ? '' : `:${port}`}`;
    const cause: Cause = { class: 'policy', attribution: 'agent', retryable: false };
    this.#put(
      `egress ${to}`,
      cause,
      `denied${rule === undefined ? '' : ` by ${rule}`}: ${reason ?? 'no rule allows it'}`,
    );
  }

  #put(where: string, cause: Cause, evidence: string): void {
    const place = failureEvidence(where).slice(0, whereCharsMax);
    if (this.#found.has(place) || this.#found.size >= failuresMax) return;
    this.#found.set(place, { ...cause, where: place, evidence: failureEvidence(evidence) });
  }
}

/** Of a whole journal; bounded. */
export async function failuresOf(entries: AsyncIterable<Entry> | Iterable<Entry>): Promise<readonly Failure[]> {
  const failures = new RunFailures();
  for await (const entry of entries) failures.add(entry);
  return failures.list();
}

const whereCharsMax = 200;
const lost: Cause = { class: 'infrastructure', attribution: 'infrastructure', retryable: true };
const refused: Cause = { class: 'approval', attribution: 'policy', retryable: false };
const outside: Cause = { class: 'constraint_violation', attribution: 'agent', retryable: false };

/** Findings that are only noted at the export: made safe and exported, or kept inside as the policy has it. */
export const harmlessFindings: ReadonlySet<string> = new Set([
  'mode_normalised',
  'hard_link',
  'odd_name',
  'base_in_scratch',
]);

/** What came back, where that was no answer to go on with. */
function causeOfAnswer({ result, status = 0 }: EntryData<'egress.ended'>): Cause | undefined {
  if (status === 429) return { class: 'rate_limit', attribution: 'environment', retryable: true };
  if (status === 401 || status === 403)
    return { class: 'permission_mismatch', attribution: 'environment', retryable: false };
  if (status >= 500 || ['unresolvable', 'refused', 'timed_out'].includes(result))
    return { class: 'environment_mismatch', attribution: 'environment', retryable: true };
  return undefined;
}
