import type { Checkpoint } from './checkpoint.ts';
import type { Conversation } from '../conversation.ts';
import { EgressFailure } from '../failure.ts';
import type { AddressDecision, Upstream } from './judge.ts';
import type { Pass, PassEnd } from './pass.ts';

/** A pass that lets everything through but what it was told not to, and remembers what it was asked. */
export class TestPass implements Pass {
  readonly id = 1;
  readonly rule = undefined;
  readonly upstream: Upstream | undefined;
  readonly checked: string[] = [];
  readonly ends: PassEnd[] = [];
  readonly #controller = new AbortController();
  sentBytes = 0;
  receivedBytes = 0;
  sentMaxBytes = Infinity;
  decide: (address: string) => AddressDecision = () => named;

  constructor(upstream?: Upstream) {
    this.upstream = upstream;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  check(address: string): AddressDecision {
    this.checked.push(address);
    return this.decide(address);
  }

  sent(bytes: number): void {
    this.sentBytes += bytes;
    if (this.sentBytes > this.sentMaxBytes) throw new EgressFailure('cut', 'more bytes than the rule allows');
  }

  received(bytes: number): void {
    this.receivedBytes += bytes;
  }

  end(result: PassEnd): Promise<void> {
    this.ends.push(result);
    return Promise.resolve();
  }

  abandon(reason: EgressFailure): void {
    this.#controller.abort(reason);
  }

  withdraw(): void {
    this.#controller.abort(new EgressFailure('cut', 'the policy was narrowed'));
  }
}

const named = { kind: 'allowed', named: true } as const;

/** Lets nothing through that is loopback, as the rules of a policy do; `named` ones aside. */
export function onlyPublic(...allowed: readonly string[]): (address: string) => AddressDecision {
  return (address) => {
    if (allowed.includes(address)) return named;
    const inside = /^(127\.|10\.|192\.168\.|169\.254\.|::1$|::ffff:|fe80:)/.test(address);
    return inside
      ? { kind: 'denied', id: 'private_address', reason: 'a private address' }
      : { kind: 'allowed', named: false };
  };
}

export function checkpointOf(pass: Pass): Pick<Checkpoint, 'connection'> {
  return { connection: () => Promise.resolve(pass) };
}

export const denying: Pick<Checkpoint, 'connection'> = {
  connection: () => Promise.reject(new EgressFailure('denied', 'no rule allows it')),
};

export function conversationOf(
  inner: Conversation['inner'],
  host: string,
  port: number,
  via: Conversation['via'] = 'name',
): Conversation {
  return { inner, host, port, callId: undefined, via };
}
