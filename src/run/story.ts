import type { ApprovalOutcome } from '../approvals/approval.ts';
import type { RecordedApproval } from '../approvals/approvals.ts';
import type { Used } from '../budget/budget.ts';
import { ContextStory } from '../context/context-story.ts';
import type { Digest } from '../digest.ts';
import { EgressBefore } from '../egress/kept.ts';
import type { Entry, EntryData } from '../journal/entry.ts';
import { readEntries } from '../journal/read.ts';
import { riskLevels } from '../policy/language/fields.ts';
import { askedBefore, type AskedBefore } from './call-request.ts';
import type { GateChange } from './gate.ts';

/** A call whose intent is on record. */
export type Intended = EntryData<'call.intended'>;

/**
 * What a journal says of a run that is to go on: how it was opened, what it has spent, what was taken away from it, what people
 * were asked, and which calls have no outcome. Memory: an id and a digest for each call.
 */
export class RunStory {
  opened: EntryData<'run.opened'> | undefined;
  started: EntryData<'sandbox.started'> | undefined;
  /** When it was opened, by the wall clock. */
  openedAtMs = 0;
  readonly egress = new EgressBefore();
  readonly context = new ContextStory();
  /** Profiles, rules and upstreams that were taken away. */
  readonly without: string[] = [];
  readonly revoked: string[] = [];
  readonly changes: GateChange[] = [];
  /** Of its first fingerprint. */
  fingerprint: Digest | undefined;
  readonly drift: EntryData<'drift.found'>[] = [];
  /** Without an outcome. */
  readonly open = new Map<string, Intended>();
  readonly intended = new Map<string, AskedBefore>();
  /** Calls that may have written files, since somebody last looked; when they began, by the wall clock. */
  readonly writers = new Map<string, number>();
  readonly #denied = new Set<string>();
  readonly #approvals = new Map<string, Asked>();
  readonly #byTag = new Map<string, number>();
  #callTimes: number[] = [];
  readonly #spent = { calls: 0, denied: 0, deniedInARow: 0, approvals: 0, outputBytes: 0, cpuMs: 0 };
  #lastMono = 0;
  #lastAtMs = 0;

  static async read(journal: string): Promise<RunStory> {
    const story = new RunStory();
    for await (const entry of readEntries(journal)) story.#push(entry);
    return story;
  }

  /** The time of the run now. Where nobody has counted it (`runMs`), the wall clock bridges the gap, and never backwards. */
  runMs({ nowMs, runMs }: Now): number {
    return Math.max(this.#lastMono, runMs ?? this.#lastMono + Math.max(0, nowMs - this.#lastAtMs));
  }

  used(now: Now): Used {
    const elapsedMs = this.runMs(now);
    const callAgesMs = this.#callTimes.map((mono) => elapsedMs - mono).filter((age) => age < minuteMs);
    return { ...this.#spent, byTag: this.#byTag, elapsedMs, callAgesMs };
  }

  get outputBytes(): number {
    return this.#spent.outputBytes;
  }

  /** What people were asked and answered; `used`: the call that it was for has been let in or denied. */
  approvals(now: Now): ReadonlyMap<string, RecordedApproval> {
    const elapsedMs = this.runMs(now);
    return new Map(
      [...this.#approvals].map(([id, { callId, outcome, mono }]) => {
        const used = callId === undefined || this.intended.has(callId) || this.#denied.has(callId);
        return [id, { outcome, used, askedMsAgo: elapsedMs - mono }];
      }),
    );
  }

  #push(entry: Entry): void {
    this.context.push(entry);
    this.#lastMono = entry.mono;
    this.#lastAtMs = Math.max(this.#lastAtMs, Date.parse(entry.at));
    switch (entry.type) {
      case 'run.opened':
        this.opened = entry.data;
        this.openedAtMs = Date.parse(entry.at);
        return;
      case 'sandbox.started':
        this.started = entry.data;
        return;
      case 'files.seen':
        for (const callId of this.writers.keys()) if (!this.open.has(callId)) this.writers.delete(callId);
        return;
      case 'call.intended':
        if (['exec', 'upload'].includes(entry.data.tool)) this.writers.set(entry.data.callId, Date.parse(entry.at));
        return this.#countCall(entry.data, entry.mono);
      case 'call.ended':
        this.open.delete(entry.data.callId);
        this.#spent.outputBytes += entry.data.output?.bytes ?? 0;
        this.#spent.cpuMs += entry.data.cpuMs ?? 0;
        return;
      case 'call.denied':
        this.#denied.add(entry.data.callId);
        if (!isCounted(entry.data.rule)) return;
        this.#spent.denied += 1;
        this.#spent.deniedInARow += 1;
        return;
      case 'approval.requested':
        if (entry.data.at !== 'export') this.#spent.approvals += 1;
        this.#approvals.set(entry.data.id, { ...entry.data, mono: entry.mono, outcome: undefined });
        return;
      case 'approval.decided':
        return this.#decided(entry.data);
      case 'risk.raised':
        return this.#raised(entry.data.to);
      case 'drift.found':
        this.drift.push(entry.data);
        return;
      case 'egress.decided':
        return this.egress.push(entry.data);
      case 'environment.fingerprint':
        this.fingerprint ??= entry.data.document;
        return;
      case 'egress.narrowed':
        this.without.push(...entry.data.without);
        return;
      case 'credential.revoked':
        this.revoked.push(entry.data.credential);
        return;
      default:
    }
  }

  #raised(to: string): void {
    const level = riskLevels.find((known) => known === to);
    if (level !== undefined) this.changes.push({ kind: 'raised', to: level });
  }

  #countCall(call: Intended, mono: number): void {
    this.open.set(call.callId, call);
    this.intended.set(call.callId, askedBefore(call));
    this.#spent.calls = Math.max(this.#spent.calls, call.count);
    this.#spent.deniedInARow = 0;
    for (const tag of call.tags ?? []) this.#byTag.set(tag, (this.#byTag.get(tag) ?? 0) + 1);
    this.#callTimes.push(mono);
    if (this.#callTimes.length >= 2_048) this.#callTimes = this.#callTimes.filter((at) => mono - at < minuteMs);
  }

  #decided({ id, verdict: kind, by, reason }: EntryData<'approval.decided'>): void {
    const asked = this.#approvals.get(id);
    if (asked === undefined) return;
    this.#approvals.set(id, { ...asked, outcome: { kind, by, reason } });
    if (asked.at === 'budget') this.changes.push({ kind: kind === 'approved' ? 'extended' : 'asked' });
  }
}

interface Now {
  /** By the wall clock. */
  readonly nowMs: number;
  /** Of the run, where somebody has counted on. */
  readonly runMs?: number;
}

interface Asked {
  readonly callId?: string | undefined;
  /** When, by the time of the run. */
  readonly mono: number;
  readonly at: EntryData<'approval.requested'>['at'];
  readonly outcome: ApprovalOutcome | undefined;
}

const minuteMs = 60_000;

/** A budget that is spent, a gate that is broken and a risk that is too high deny too, but cost nothing. */
function isCounted(rule: string): boolean {
  return !/^(budget|limits|gate|risk\.levels)\./.test(rule);
}
