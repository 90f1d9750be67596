import type { Conversation } from './conversation.ts';
import { EgressFailure } from './failure.ts';
import type { Judge, Upstream } from './judge.ts';
import type { Pass } from './pass.ts';
import type { EgressRecord } from './record.ts';

export type { AddressDecision } from './judge.ts';
export type { Pass, PassEnd } from './pass.ts';

/** What is asked for, apart from the connection that asks. */
export type Ask = Pick<Conversation, 'host' | 'port' | 'callId' | 'via'>;

export interface RequestAsk {
  readonly method: string;
  readonly url: URL;
  readonly websocket: boolean;
}

/** How a connection is carried; what is refused here is recorded by `connection`. */
export type Route =
  | { readonly kind: 'pass_through' | 'terminate' | 'plain' | 'refused' }
  | { readonly kind: 'upstream'; readonly upstream: Upstream };

export type NameDecision =
  | { readonly kind: 'listed'; readonly ports: readonly number[] }
  | { readonly kind: 'refused'; readonly reason: string };

export interface CheckpointLimits {
  /** Decisions on record in a run; after that everything is denied. */
  readonly maxRecords: number;
  /** Distinct names under suffix rules, and distinct unlisted ones. */
  readonly maxNames: number;
  readonly maxUnlisted: number;
  readonly onExcess: 'deny' | 'stop_run';
}

export interface CheckpointParts {
  readonly rules: Judge;
  readonly record: EgressRecord;
  readonly mode: 'enforce' | 'observe';
  readonly limits: CheckpointLimits;
  /** A budget with `stop_run` is spent: told once. */
  readonly onStop?: (reason: string) => void;
}

/**
 * Decides, counts and records; nothing passes that has not asked here. Promises:
 *  - a decision is on record before anything happens because of it; no record, no effect;
 *  - doubt denies: rules that throw, a record that fails, a budget that is spent;
 *  - what was let through is cut when its rules are narrowed, its bounds are over, or the run closes.
 */
export class Checkpoint {
  constructor(parts: CheckpointParts) {
    void parts;
  }

  /** Pure: says only which handler carries it. */
  route(ask: Ask): Route {
    void ask;
    return { kind: 'refused' };
  }

  /** For pass-through and upstreams. Rejects with `EgressFailure('denied')`, which is on record too. */
  connection(ask: Ask): Promise<Pass> {
    void ask;
    return Promise.reject(new EgressFailure('denied', 'nothing is allowed'));
  }

  /** For each request of a connection that is looked into. Rejects as `connection` does. */
  request(ask: Ask, request: RequestAsk): Promise<Pass> {
    void request;
    return this.connection(ask);
  }

  /** Rejects only when the answer cannot be recorded: then none is given. */
  name(host: string, callId: string | undefined): Promise<NameDecision> {
    void host;
    void callId;
    return Promise.resolve({ kind: 'refused', reason: 'nothing is allowed' });
  }

  /** Records a refusal that a handler found out: another name in SNI or Host, a target that reads two ways. To be thrown. */
  refuse(
    ask: Ask,
    why: { readonly reason: string; readonly rule?: string; readonly hint?: string; readonly request?: RequestAsk },
  ): Promise<EgressFailure> {
    void ask;
    return Promise.resolve(new EgressFailure('denied', why.reason));
  }

  /** From here on these rules hold. Passes that they answer otherwise are aborted. */
  narrow(rules: Judge): void {
    void rules;
  }
}
