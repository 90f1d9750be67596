import { EgressFailure } from '../failure.ts';
import type { AddressDecision, EffectiveEgressRule, Upstream } from './judge.ts';
import type { EgressEnded, EgressResult } from './record.ts';

/** Leave for one connection or one request, already on record. Whoever holds it says how it ended, once. */
export interface Pass {
  readonly id: number;
  /** Absent for an upstream, and where it is only observed that no rule allows it. */
  readonly rule: EffectiveEgressRule | undefined;
  readonly upstream: Upstream | undefined;
  /** Of every address before it is dialled; of a kept connection, before it is used again. */
  check(address: string): AddressDecision;
  /** Aborted with an `EgressFailure`: `timed_out`, or `cut` because it is narrowed, revoked, over its bytes or the run closes. */
  readonly signal: AbortSignal;
  /** Bytes about to be moved. Over the rule's bound: aborts `signal` and throws `EgressFailure('cut')`: do not move them. */
  sent(bytes: number): void;
  received(bytes: number): void;
  /** Whoever holds it wants no more of it: aborts `signal` with this. How it ended is still the holder's to say. */
  abandon(reason: EgressFailure): void;
  /** Never rejects; the second time does nothing. */
  end(result: PassEnd): Promise<void>;
}

export interface PassEnd {
  readonly kind: EgressResult;
  /** `null`: a proxy of the operator resolved it. */
  readonly address?: string | null;
  readonly status?: number;
  readonly reason?: string;
}

export interface PassTerms {
  readonly id: number;
  readonly rule: EffectiveEgressRule | undefined;
  readonly upstream: Upstream | undefined;
  readonly bounds: Pick<EffectiveEgressRule, 'maxSentBytes' | 'maxReceivedBytes' | 'timeoutMs'>;
  readonly judgeAddress: (address: string) => AddressDecision;
  /** `refused`: it was ended by us, not by either side. */
  readonly ended: (entry: EgressEnded, refused: boolean) => Promise<void>;
}

/** The pass as its checkpoint holds it. */
export class IssuedPass implements Pass {
  readonly id: number;
  readonly rule: EffectiveEgressRule | undefined;
  readonly upstream: Upstream | undefined;
  readonly #terms: PassTerms;
  readonly #controller = new AbortController();
  readonly #startedMs = performance.now();
  readonly #timer: NodeJS.Timeout;
  /** Checked and allowed: asked again when the rules change. */
  readonly #addresses = new Set<string>();
  #sentBytes = 0;
  #receivedBytes = 0;
  #cut: EgressFailure | undefined;
  #end: Promise<void> | undefined;

  constructor(terms: PassTerms) {
    this.#terms = terms;
    ({ id: this.id, rule: this.rule, upstream: this.upstream } = terms);
    const { timeoutMs } = terms.bounds;
    this.#timer = setTimeout(() => this.cut(`it took longer than ${timeoutMs} ms`, 'timed_out'), timeoutMs);
    this.#timer.unref();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  check(address: string): AddressDecision {
    const decision = this.#terms.judgeAddress(address);
    if (decision.kind === 'allowed' && this.#addresses.size < addressesMax) this.#addresses.add(address);
    return decision;
  }

  sent(bytes: number): void {
    const { maxSentBytes } = this.#terms.bounds;
    this.#refuseWhenCut();
    if (this.#sentBytes + bytes > maxSentBytes) throw this.cut(`it sends more than ${maxSentBytes} bytes`);
    this.#sentBytes += bytes;
  }

  received(bytes: number): void {
    const { maxReceivedBytes } = this.#terms.bounds;
    this.#refuseWhenCut();
    if (this.#receivedBytes + bytes > maxReceivedBytes) throw this.cut(`it gets more than ${maxReceivedBytes} bytes`);
    this.#receivedBytes += bytes;
  }

  /** Ends what uses it, at once. It stays open until its holder has said so, or the checkpoint closes. */
  cut(reason: string, kind: 'cut' | 'timed_out' = 'cut'): EgressFailure {
    if (this.#cut !== undefined) return this.#cut;
    this.#cut = new EgressFailure(kind, reason, { rule: this.rule?.id });
    this.#controller.abort(this.#cut);
    return this.#cut;
  }

  abandon(reason: EgressFailure): void {
    this.#controller.abort(reason);
  }

  /** An address that it was let through to is refused now. */
  recheck(): EgressFailure | undefined {
    for (const address of this.#addresses) {
      const decision = this.#terms.judgeAddress(address);
      if (decision.kind === 'denied') return this.cut(`${address} is refused now: ${decision.reason}`);
    }
    return undefined;
  }

  end(result: PassEnd): Promise<void> {
    this.#end ??= this.#tell(result);
    return this.#end;
  }

  /** What was cut is told as that, whatever its holder made of it. */
  #tell({ kind, address, status, reason }: PassEnd): Promise<void> {
    clearTimeout(this.#timer);
    const cut = this.#cut;
    const why = cut?.reason ?? reason;
    const entry = {
      id: this.id,
      result: cut === undefined ? kind : cut.kind === 'timed_out' ? ('timed_out' as const) : ('cut' as const),
      ...(address === undefined || address === null ? {} : { address }),
      ...(status === undefined ? {} : { status }),
      sentBytes: this.#sentBytes,
      receivedBytes: this.#receivedBytes,
      ms: Math.round(performance.now() - this.#startedMs),
      ...(why === undefined ? {} : { reason: why }),
    };
    return this.#terms.ended(entry, cut !== undefined || kind === 'denied');
  }

  #refuseWhenCut(): void {
    if (this.#cut !== undefined) throw this.#cut;
    if (this.#end !== undefined) throw new EgressFailure('cut', 'it is over', { rule: this.rule?.id });
  }
}

const addressesMax = 64;
