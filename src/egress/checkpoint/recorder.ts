import { messageOf } from '../../errors.ts';
import { deniedThing, recorded, type Question } from './ask.ts';
import { clean } from './clean.ts';
import { Denials, type DeniedEgress } from './denials.ts';
import { EgressFailure } from '../failure.ts';
import { Pace } from '../pace.ts';
import type { EgressDecided, EgressEnded, EgressRecord } from './record.ts';

/** Why something is refused, and what would allow it. */
export interface Why {
  readonly reason: string;
  readonly rule?: string | undefined;
  readonly hint?: string | undefined;
}

export interface RecorderParts {
  readonly record: EgressRecord;
  readonly recordsMax: number;
  /** Decisions that are on record already. Default 0. */
  readonly lastId?: number;
  /** Calls that may be behind what is attributed to none. */
  readonly runningCalls: () => readonly string[];
  /** A record has failed: what is under way has to end. */
  readonly onBroken: (reason: string) => void;
}

/** More than any honest client needs at once. */
const refusals = { perSecond: 400, burst: 512 };

type Told = Pick<EgressDecided, 'decision' | 'reason' | 'rule'>;

/**
 * Numbers decisions and has them written, so many in a run. Promises:
 *  - what resolved is on record;
 *  - once a record has failed, or there are as many as a run may have, nothing is let through any more; after a failure what
 *    is under way is ended too;
 *  - refusals cost the record a bounded number of entries, however many there are; beyond a burst, who is refused waits, so that
 *    one run's refusals do not take the time of others.
 */
export class Recorder {
  readonly #record: EgressRecord;
  readonly #recordsMax: number;
  readonly #runningCalls: () => readonly string[];
  readonly #onBroken: (reason: string) => void;
  readonly #denials = new Denials();
  readonly #refusals = new Pace(refusals);
  #lastId: number;
  #shut: string | undefined;

  constructor(parts: RecorderParts) {
    this.#record = parts.record;
    this.#recordsMax = parts.recordsMax;
    this.#lastId = parts.lastId ?? 0;
    this.#runningCalls = parts.runningCalls;
    this.#onBroken = parts.onBroken;
  }

  /** Why nothing passes any more. */
  get shut(): string | undefined {
    return this.#shut;
  }

  shutDown(reason: string): void {
    this.#shut ??= reason;
    this.#refusals.release();
  }

  /** Resolves with its number once it is written. Rejects with `EgressFailure('denied')`: then nothing may happen. */
  async allowed(question: Question, told: Told): Promise<number> {
    if (this.#lastId >= this.#recordsMax)
      this.shutDown(`the run has made all ${this.#recordsMax} decisions that it may`);
    if (this.#shut !== undefined) throw await this.denied(question, { reason: this.#shut }, true);
    return this.#write(question, told);
  }

  /** `inFull`: it may have an entry of its own; otherwise it is only counted. Never rejects. */
  async denied(question: Question, { reason, rule, hint = '' }: Why, inFull: boolean): Promise<EgressFailure> {
    if (question.kind !== 'name') await this.#refusals.turn(); // who asks for names is paced where they come in
    const thing = { ...deniedThing(question), rule, reason, hint };
    this.tell(question, { reason, rule, hint });
    // The one after the last says why there are no more.
    if (!inFull || this.#lastId > this.#recordsMax) this.#denials.count(thing);
    else if (this.#denials.takeFull(thing, question.ask.callId)) {
      const told = { decision: 'denied', reason, ...(rule === undefined ? {} : { rule }) } as const;
      await this.#write(question, told).catch(() => undefined); // it is refused either way
    }
    return new EgressFailure('denied', reason, { rule, hint });
  }

  /** To be in the answer of the call that it belongs to, or of those that it may belong to. */
  tell(question: Question, { reason, rule, hint = '' }: Why): void {
    const { callId } = question.ask;
    const calls = callId === undefined ? this.#runningCalls() : [callId];
    this.#denials.note(calls, { ...deniedThing(question), rule, reason, hint });
  }

  async ended(entry: EgressEnded): Promise<void> {
    const reason = entry.reason === undefined ? {} : { reason: clean(entry.reason, 500) };
    try {
      await this.#record.ended({ ...entry, ...reason });
    } catch (cause) {
      this.#break(cause);
    }
  }

  /** Refusals that were only counted so far. */
  async settle(): Promise<void> {
    for (const counted of this.#denials.takeCounted())
      await this.#record.counted(counted).catch((cause: unknown) => this.#break(cause));
  }

  deniedOf(callId: string): readonly DeniedEgress[] {
    return this.#denials.of(callId);
  }

  /** The number is taken in the order of the entries. */
  async #write(question: Question, { decision, rule, reason }: Told): Promise<number> {
    this.#lastId += 1;
    const id = this.#lastId;
    try {
      await this.#record.decided({
        id,
        ...recorded(question),
        decision,
        ...(rule === undefined ? {} : { rule }),
        ...(reason === undefined ? {} : { reason: clean(reason, 500) }),
      });
      return id;
    } catch (cause) {
      throw new EgressFailure('denied', this.#break(cause), { cause });
    }
  }

  #break(cause: unknown): string {
    const reason = `what passes cannot be recorded: ${messageOf(cause)}`;
    this.shutDown(reason);
    this.#onBroken(reason);
    return reason;
  }
}
