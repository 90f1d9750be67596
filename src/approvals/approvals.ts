import { messageOf } from '../errors.ts';
import { Deadline } from '../deadline.ts';
import { newId } from '../ids.ts';
import type { Digest } from '../digest.ts';
import { outcomeOf, type ApprovalOutcome, type ApprovalRequest, type Approver } from './approval.ts';
import { ApprovalFiles, type ApprovalRecord } from './approval-files.ts';

/** What is to be approved. */
export interface Ask {
  /** The call that waits. */
  readonly callId?: string;
  /** Told as soon as somebody is asked. */
  readonly onAsked?: (request: ApprovalRequest) => void;
  readonly category: string;
  readonly at: ApprovalRequest['at'];
  readonly subject: string;
  readonly rule: string;
  readonly reach: string;
  readonly digest: Digest;
  readonly terms: Terms;
}

/** How a category is approved. */
export interface Terms {
  readonly quorum: number;
  readonly timeoutMs: number;
  readonly remember: 'none' | 'run';
  readonly reasonRequired: boolean;
  readonly note?: string;
}

export interface ApprovalsOptions {
  readonly run: string;
  /** Where pending ones are kept. */
  readonly directory: string;
  /** Nobody can be asked: everything is denied. */
  readonly approver: Approver | undefined;
  /** On record before anybody is asked, and before the answer has an effect. */
  readonly record: (event: ApprovalEvent) => Promise<unknown>;
  /** Of a run that goes on: what its journal says of each request, by id. */
  readonly recorded?: ReadonlyMap<string, RecordedApproval>;
  /** Wall clock: for the dates that are shown. Default the machine's. */
  readonly nowMs?: () => number;
  /** What time is measured by: a clock that nobody sets. Default `performance.now`. */
  readonly monotonicMs?: () => number;
}

export interface RecordedApproval {
  readonly outcome: ApprovalOutcome | undefined;
  /** The call that it was for has been let in or denied. */
  readonly used: boolean;
  /** By the time of the run. */
  readonly askedMsAgo: number;
}

/** What people were shown of a call that they are asked for: all of it, or how it begins. */
export interface ShownBefore {
  readonly whole: Readonly<Record<string, unknown>> | undefined;
  readonly begins: string;
}

interface AskedOn {
  readonly request: ApprovalRequest;
  readonly decided: Promise<ApprovalOutcome>;
}

export type ApprovalEvent =
  | { readonly kind: 'requested'; readonly request: ApprovalRequest }
  | { readonly kind: 'decided'; readonly request: ApprovalRequest; readonly outcome: ApprovalOutcome };

/**
 * The approvals of one run. Promises:
 *  - an answer holds for exactly what was shown: it is found again by the digest of call, policy, base and run alone;
 *  - decided once, used once, unless the category is remembered for the run;
 *  - a time-out, an error, too few people or nobody to ask is a denial;
 *  - what is pending is on disk before anybody is asked, and is pending still after a restart, until it expires;
 *  - it is pending as long as its category says, and no wall clock that somebody sets makes that longer or shorter.
 */
export class Approvals {
  readonly #options: ApprovalsOptions;
  readonly #files: ApprovalFiles;
  readonly #nowMs: () => number;
  readonly #monotonicMs: () => number;
  /** When each one that is pending was asked for, by that clock. */
  readonly #askedMs = new Map<string, number>();
  readonly #closing = new AbortController();
  readonly #pending = new Map<string, ApprovalRequest>();
  readonly #approved = new Map<string, ApprovalRequest>();
  readonly #asking = new Map<string, Promise<ApprovalOutcome>>();
  /** Asked for in the name of a runner that died, and not claimed by their calls yet. */
  readonly #askedOn = new Map<string, AskedOn>();
  /** Their time was over while nobody was there. */
  readonly #lapsed: ApprovalRequest[] = [];
  readonly #handedOver = new AbortController();

  private constructor(options: ApprovalsOptions) {
    this.#options = options;
    this.#files = new ApprovalFiles(options.directory);
    this.#nowMs = options.nowMs ?? Date.now;
    this.#monotonicMs = options.monotonicMs ?? (() => performance.now());
  }

  static async open(options: ApprovalsOptions): Promise<Approvals> {
    const approvals = new Approvals(options);
    for (const kept of await approvals.#files.readAll()) {
      const { request, outcome, used } = await approvals.#asRecorded(kept);
      if (outcome === null) approvals.#askedMs.set(request.id, approvals.#monotonicMs() - approvals.#msSince(request));
      if (outcome === null && approvals.#leftMs(request) <= 0) approvals.#lapsed.push(request);
      else if (outcome === null) approvals.#pending.set(keyOf(request), request);
      if (outcome?.kind === 'approved' && !used) approvals.#approved.set(keyOf(request), request);
    }
    return approvals;
  }

  /** A runner may die between the record and the file: the record holds. What is not on record was not asked. */
  async #asRecorded(kept: ApprovalRecord): Promise<ApprovalRecord> {
    const { recorded } = this.#options;
    if (recorded === undefined) return kept;
    const told = recorded.get(kept.request.id);
    if (told === undefined) return { ...kept, used: true, outcome: kept.outcome ?? notAsked };
    const outcome = told.outcome ?? kept.outcome;
    // Let in, or decided for all the run: then the file knows. Else what was approved has never been done.
    const used = told.used ? kept.used || kept.outcome === null : false;
    if (outcome !== kept.outcome && outcome !== null) await this.#files.write(kept.request, outcome, used);
    return { ...kept, outcome, used };
  }

  /** What waits for somebody. */
  get pending(): readonly ApprovalRequest[] {
    return [...this.#pending.values()];
  }

  /** Resolves with the decision, at the latest when its time is over. Throws when it cannot be kept or recorded. */
  async ask(ask: Ask): Promise<ApprovalOutcome> {
    const key = keyOf(ask);
    // One answer is for one call: the same call made twice at a time is asked for twice, one after the other.
    for (let asked = this.#asking.get(key); asked !== undefined; asked = this.#asking.get(key))
      await asked.catch(() => undefined);
    const asking = this.#ask(key, ask).finally(() => this.#asking.delete(key));
    this.#asking.set(key, asking);
    return asking;
  }

  async #ask(key: string, ask: Ask): Promise<ApprovalOutcome> {
    const asked = this.#askedOn.get(key);
    if (asked !== undefined) return this.#claim(key, asked, ask);
    const granted = this.#approved.get(key);
    if (granted !== undefined) {
      if (ask.terms.remember === 'none') {
        this.#approved.delete(key);
        await this.#files.write(granted, { kind: 'approved', by: [], reason: '' }, true);
      }
      return { kind: 'approved', by: [], reason: 'approved before' };
    }
    const request = this.#pending.get(key) ?? this.#requestOf(ask);
    const isNew = !this.#pending.has(key);
    this.#pending.set(key, request);
    try {
      if (isNew) {
        await this.#files.write(request, null, false);
        await this.#options.record({ kind: 'requested', request });
      }
      ask.onAsked?.(request);
      const outcome = await this.#decisionOn(request);
      const keep = outcome.kind === 'approved' && ask.terms.remember === 'run';
      await this.#options.record({ kind: 'decided', request, outcome });
      await this.#files.write(request, outcome, !keep);
      if (keep) this.#approved.set(key, request);
      return outcome;
    } finally {
      this.#pending.delete(key);
      this.#askedMs.delete(request.id);
    }
  }

  /**
   * For a run that goes on: people are asked on for calls that waited when its runner died. Their answer waits for the call to be
   * made again; nobody is asked twice. Resolves once it is on record which of them have expired meanwhile.
   */
  async askOn(): Promise<void> {
    for (const [key, request] of this.#pending) {
      if (request.at !== 'call' || this.#askedOn.has(key)) continue;
      const decided = this.#decideAhead(key, request);
      decided.catch(() => undefined); // whoever makes the call hears of it
      this.#askedOn.set(key, { request, decided });
    }
    const outcome: ApprovalOutcome = { kind: 'expired', by: [], reason: 'its time was over' };
    for (const request of this.#lapsed.splice(0)) {
      await this.#options.record({ kind: 'decided', request, outcome });
      await this.#files.write(request, outcome, true);
    }
  }

  async #decideAhead(key: string, request: ApprovalRequest): Promise<ApprovalOutcome> {
    try {
      const outcome = await this.#decisionOn(request);
      await this.#options.record({ kind: 'decided', request, outcome });
      await this.#files.write(request, outcome, false);
      return outcome;
    } finally {
      this.#pending.delete(key);
      this.#askedMs.delete(request.id);
    }
  }

  async #claim(key: string, { request, decided }: AskedOn, ask: Ask): Promise<ApprovalOutcome> {
    ask.onAsked?.(request);
    const outcome = await decided;
    this.#askedOn.delete(key);
    const keep = outcome.kind === 'approved' && ask.terms.remember === 'run';
    await this.#files.write(request, outcome, !keep);
    if (keep) this.#approved.set(key, request);
    return outcome;
  }

  /** What a call that waited when its runner died was shown as, until it is made again; undefined: none did under this id. */
  shownFor(callId: string): ShownBefore | undefined {
    const left = [...[...this.#askedOn.values()].map(({ request }) => request), ...this.#approved.values()];
    const subject = left.find((request) => request.at === 'call' && request.callId === callId)?.subject;
    if (subject === undefined) return undefined;
    const begins = subject.slice(0, subjectMax);
    return {
      begins,
      whole: begins === subject ? (JSON.parse(subject) as Readonly<Record<string, unknown>>) : undefined,
    };
  }

  /** Once every answer that has come is on record. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#askedOn.values()].map(({ decided }) => decided));
  }

  /** Nothing is decided here any more: what is pending stays so, for the next runner. */
  handOver(): void {
    this.#handedOver.abort();
  }

  /** No call waits any more; what is asked for one is denied. What leaves can still be asked for. */
  cancelCalls(): void {
    this.#closing.abort();
  }

  async #decisionOn(request: ApprovalRequest): Promise<ApprovalOutcome> {
    const { approver } = this.#options;
    if (approver === undefined) return { kind: 'denied', by: [], reason: 'there is nobody to ask here' };
    const leftMs = this.#leftMs(request);
    if (leftMs <= 0) return { kind: 'expired', by: [], reason: 'its time was over' };
    const closes = request.at === 'call' ? this.#closing.signal : new AbortController().signal;
    if (closes.aborted) return { kind: 'denied', by: [], reason: 'the run is closed' };
    const giveUp = new AbortController();
    const deadline = Deadline.after(leftMs, `approval ${request.id}`);
    try {
      const asked = Promise.resolve(approver(request, giveUp.signal));
      const verdicts = await Promise.race([
        asked,
        aborted(deadline.signal, 'expired' as const, giveUp.signal),
        aborted(closes, 'closed' as const, giveUp.signal),
        aborted(this.#handedOver.signal, 'handed over' as const, giveUp.signal),
      ]);
      if (verdicts === 'handed over' || this.#handedOver.signal.aborted) return await new Promise(() => undefined);
      if (verdicts === 'expired') return { kind: 'expired', by: [], reason: 'nobody decided in time' };
      if (verdicts === 'closed') return { kind: 'denied', by: [], reason: 'the run is closed' };
      return outcomeOf(request, verdicts);
    } catch (error) {
      if (this.#handedOver.signal.aborted) return await new Promise(() => undefined);
      return { kind: 'broken', by: [], reason: `asking failed: ${messageOf(error)}`.slice(0, 500) };
    } finally {
      deadline.clear();
      giveUp.abort();
    }
  }

  #requestOf({ callId, category, at, subject, rule, reach, digest, terms }: Ask): ApprovalRequest {
    const nowMs = this.#nowMs();
    const id = newId(nowMs);
    this.#askedMs.set(id, this.#monotonicMs());
    return {
      id,
      run: this.#options.run,
      ...(callId === undefined ? {} : { callId }),
      category,
      at,
      subject:
        subject.length <= subjectMax
          ? subject
          : `${subject.slice(0, subjectMax)} ... and ${subject.length - subjectMax} characters more`,
      rule: rule.slice(0, 300),
      reach: reach.slice(0, 2000),
      note: terms.note ?? '',
      quorum: terms.quorum,
      reasonRequired: terms.reasonRequired,
      digest,
      askedAt: new Date(nowMs).toISOString(),
      expiresAt: new Date(nowMs + terms.timeoutMs).toISOString(),
    };
  }

  #leftMs({ id, askedAt, expiresAt }: ApprovalRequest): number {
    const nowMs = this.#monotonicMs();
    return Date.parse(expiresAt) - Date.parse(askedAt) - (nowMs - (this.#askedMs.get(id) ?? nowMs));
  }

  /** Of one that an earlier runner asked for. Without a record the wall clock says it, and never that it was asked tomorrow. */
  #msSince({ id, askedAt }: ApprovalRequest): number {
    return this.#options.recorded?.get(id)?.askedMsAgo ?? Math.max(0, this.#nowMs() - Date.parse(askedAt));
  }
}

/** Until nobody waits for it: signals of a run outlive its approvals. */
function aborted<T>(signal: AbortSignal, value: T, until: AbortSignal): Promise<T> {
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(value), { once: true, signal: until });
  });
}

const notAsked: ApprovalOutcome = { kind: 'broken', by: [], reason: 'it was never asked' };
const subjectMax = 7900;

/** One category never stands for another. */
function keyOf({ category, digest }: Pick<ApprovalRequest, 'category' | 'digest'>): string {
  return `${digest}:${category}`;
}
