import type { AddressDecision, EffectiveEgressRule, Upstream } from './judge.ts';
import type { EgressResult } from './record.ts';

/** Leave for one connection or one request, already on record. Whoever holds it says how it ended, once. */
export interface Pass {
  readonly id: number;
  /** Absent for an upstream, and where it is only observed that no rule allows it. */
  readonly rule: EffectiveEgressRule | undefined;
  readonly upstream: Upstream | undefined;
  /** Of every address before it is dialled; of a kept connection, before it is used again. */
  check(address: string): AddressDecision;
  /** Aborted with an `EgressFailure`: narrowed, revoked, run closing, time or bytes over. */
  readonly signal: AbortSignal;
  /** Bytes about to be moved. Over the rule's bound: aborts `signal` and throws `EgressFailure('cut')`: do not move them. */
  sent(bytes: number): void;
  received(bytes: number): void;
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
