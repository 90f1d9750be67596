import type { EffectiveEgressRule } from './judge.ts';

/** What bounds a request that no rule allows and that is only observed: no private address, generous numbers. */
export const unlistedRule: EffectiveEgressRule = {
  id: 'observed',
  profile: '',
  host: [],
  ports: [],
  methods: [],
  path: [],
  query: {},
  tls: 'none',
  websocket: false,
  allowEncodedSlash: false,
  addresses: [],
  maxSentBytes: 1024 ** 3,
  maxReceivedBytes: 1024 ** 4,
  maxRequests: Number.MAX_SAFE_INTEGER,
  timeoutMs: 24 * 3_600_000,
};

/** An upstream names where it goes: every address but those on a list of denials. */
export const unboundRule: EffectiveEgressRule = {
  ...unlistedRule,
  id: 'upstream',
  addresses: ['0.0.0.0/0', '::/0'],
  maxSentBytes: 1024 ** 4,
};
