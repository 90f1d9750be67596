import type { EffectiveEgressRule } from './judge.ts';

type Bounds = Pick<EffectiveEgressRule, 'addresses' | 'maxSentBytes' | 'maxReceivedBytes' | 'timeoutMs'>;

/** Of what no rule allows and is only observed: no special address, generous numbers. */
export const observedBounds: Bounds = {
  addresses: [],
  maxSentBytes: 1024 ** 3,
  maxReceivedBytes: 1024 ** 4,
  timeoutMs: 24 * 3_600_000,
};

/** An upstream says itself where it goes: every address but those on a list of denials. */
export const upstreamBounds: Bounds = {
  addresses: ['0.0.0.0/0', '::/0'],
  maxSentBytes: 1024 ** 4,
  maxReceivedBytes: 1024 ** 4,
  timeoutMs: 24 * 3_600_000,
};
