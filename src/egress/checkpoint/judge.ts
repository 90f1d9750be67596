import type { EgressRules } from '../../policy/decisions/egress-rules.ts';

export type { AddressDecision } from '../../policy/decisions/egress-rules.ts';
export type { EffectiveEgressRule, Upstream } from '../../policy/layers/effective-egress.ts';

/** What a checkpoint asks of the policy. */
export type Judge = Pick<EgressRules, 'name' | 'connection' | 'decide' | 'address' | 'hint'>;

/** `denied` stays so in every mode; `unlisted` is what a policy that only observes lets through. */
export interface Refused {
  readonly kind: 'denied' | 'unlisted';
  readonly id: string;
  readonly reason: string;
}

/**
 * Both have to allow it; the answer is the later one's. Rules are narrowed by another set of rules, never replaced: so no order
 * in which that happens gives anything back.
 */
export function narrowedBy(before: Judge, after: Judge): Judge {
  return {
    name: (host) => refusedBy(before.name(host)) ?? after.name(host),
    connection: (asked) => refusedBy(before.connection(asked)) ?? after.connection(asked),
    decide: (asked) => refusedBy(before.decide(asked)) ?? after.decide(asked),
    address: (rule, ip) => {
      const decision = before.address(rule, ip);
      return decision.kind === 'denied' ? decision : after.address(rule, ip);
    },
    hint: (asked) => after.hint(asked),
  };
}

function refusedBy<T extends { readonly kind: string }>(
  answer: T,
): Extract<T, { readonly kind: 'denied' | 'unlisted' }> | undefined {
  return answer.kind === 'denied' || answer.kind === 'unlisted'
    ? (answer as Extract<T, { readonly kind: 'denied' | 'unlisted' }>)
    : undefined;
}
