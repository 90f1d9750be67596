import type { EffectiveEgressRule, Judge, Upstream } from './judge.ts';
import type { EgressCounted, EgressDecided, EgressEnded, EgressRecord } from './record.ts';

export function ruleWith(rule: Partial<EffectiveEgressRule> = {}): EffectiveEgressRule {
  const host = ['allowed.test'];
  const bounds = { maxSentBytes: 1 << 20, maxReceivedBytes: 1 << 30, maxRequests: 1000, timeoutMs: 60_000 };
  const named = {
    id: 'r',
    profile: 'p',
    host,
    ports: [443],
    methods: ['GET'],
    path: ['/**'],
    query: {},
    addresses: [],
  };
  return { ...named, tls: 'terminate', websocket: false, allowEncodedSlash: false, ...bounds, ...rule };
}

/** A few rules, exact hosts and `**.` suffixes; `denied.test` is on a list of denials, and 10.0.0.0/8 with it. */
export function judgeOf(rules: readonly EffectiveEgressRule[], upstreams: readonly Upstream[] = []): Judge {
  const ofHost = (host: string) =>
    rules.filter((rule) =>
      rule.host.some((name) => name === host || (name.startsWith('**.') && host.endsWith(name.slice(2)))),
    );
  const refused = (host: string) =>
    host === 'denied.test'
      ? ({ kind: 'denied', id: 'never', reason: 'it is on the list' } as const)
      : ({ kind: 'unlisted', id: 'egress.profiles', reason: `no profile names ${host}` } as const);
  return {
    name: (host) => {
      const found = ofHost(host);
      if (found.length === 0) return refused(host);
      const suffix = !found.some((rule) => rule.host.includes(host));
      return { kind: 'listed', ports: found.flatMap((rule) => rule.ports), suffix };
    },
    connection: ({ host, port }) => {
      const upstream = upstreams.find((one) => one.host === host && one.port === port);
      if (upstream !== undefined) return { kind: 'upstream', upstream };
      const rule = ofHost(host).find((one) => one.ports.includes(port));
      if (rule === undefined) return refused(host);
      if (rule.tls === 'pass_through') return { kind: 'pass_through', rule };
      return { kind: rule.tls === 'none' ? 'plain' : 'terminate' };
    },
    decide: ({ method, url }) => {
      const { hostname } = new URL(url);
      const rule = ofHost(hostname).find((one) => one.methods.includes(method));
      return rule === undefined ? refused(hostname) : { kind: 'allowed', rule };
    },
    address: (rule, ip) =>
      ip.startsWith('10.') && rule?.addresses.includes(ip) !== true
        ? { kind: 'denied', id: 'never', reason: 'it is private' }
        : { kind: 'allowed', named: false },
    hint: ({ host }) => `add a rule for ${host}`,
  };
}

/** What was recorded, in order; `failing` makes every further write fail. */
export class KeptRecord implements EgressRecord {
  readonly decisions: EgressDecided[] = [];
  readonly ends: EgressEnded[] = [];
  readonly counts: EgressCounted[] = [];
  failing = false;
  /** Held writes go on when it is called. */
  release: (() => void) | undefined;
  #held: Promise<void> | undefined;

  hold(): void {
    this.#held = new Promise((resolve) => {
      this.release = resolve;
    });
  }

  async decided(entry: EgressDecided): Promise<void> {
    await this.#held;
    if (this.failing) throw new Error('the disk is full');
    this.decisions.push(entry);
  }

  async ended(entry: EgressEnded): Promise<void> {
    await this.#held;
    if (this.failing) throw new Error('the disk is full');
    this.ends.push(entry);
  }

  async counted(entry: EgressCounted): Promise<void> {
    await this.#held;
    this.counts.push(entry);
  }
}
