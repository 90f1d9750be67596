import type { EffectiveEgress, EffectiveEgressRule, Upstream } from '../layers/effective-egress.ts';
import {
  addressBytes,
  classOfAddress,
  embeddedAddresses,
  isIn,
  neverReached,
  parseRange,
  type AddressRange,
} from './address-class.ts';
import { matchesHost, readHost, type Host } from './host-name.ts';
import { compilePath, matchesPath, type PathPattern } from './path-pattern.ts';
import { readRequestUrl, type RequestUrl } from './request-url.ts';

export interface EgressRequest {
  readonly method: string;
  /** As the client has written it, where that is known: `URL` takes away what makes it ambiguous. */
  readonly url: URL | string;
  /** What `readRequestUrl` has made of this very `url`, where it was asked before. */
  readonly read?: RequestUrl;
  readonly websocket?: boolean;
}

/** A rule, or the language itself, says no; nothing that a profile could say would change it. */
export interface Denied {
  readonly kind: 'denied';
  readonly id: string;
  readonly reason: string;
}

/** No rule of the run says yes. What `observe` lets through. */
export interface Unlisted {
  readonly kind: 'unlisted';
  readonly id: 'egress.profiles';
  readonly reason: string;
}

export type NameDecision =
  | {
      readonly kind: 'listed';
      readonly ports: readonly number[];
      /** Only a rule with a star names it: the name itself may carry something out. */
      readonly suffix: boolean;
    }
  | Denied
  | Unlisted;

export type ConnectionDecision =
  | { readonly kind: 'pass_through'; readonly rule: EffectiveEgressRule }
  | { readonly kind: 'terminate' }
  | { readonly kind: 'plain' }
  | { readonly kind: 'upstream'; readonly upstream: Upstream }
  | Denied
  | Unlisted;

export type EgressDecision = { readonly kind: 'allowed'; readonly rule: EffectiveEgressRule } | Denied | Unlisted;

/** `named`: the rule names this very address, so that it may be one of this machine's own. */
export type AddressDecision = { readonly kind: 'allowed'; readonly named: boolean } | Denied;

/**
 * What the egress rules say; they are carried out elsewhere. Pure, and quick: some microseconds for some hundred rules.
 * - A name is decided before anything is resolved, an address before anything is dialled.
 * - What is denied by host or address is denied, whatever a profile says.
 * - What can be read in two ways matches no rule.
 */
export class EgressRules {
  readonly #egress: EffectiveEgress;
  readonly #rules: readonly CompiledRule[];
  readonly #ranges: readonly {
    readonly id: string;
    readonly reason: string;
    readonly ranges: readonly AddressRange[];
  }[];
  readonly #named = new WeakMap<readonly string[], readonly AddressRange[]>();

  constructor(egress: EffectiveEgress) {
    this.#egress = egress;
    this.#rules = egress.rules.map((rule) => ({ rule, paths: rule.path.map((path) => compilePath(path)) }));
    this.#ranges = egress.deny.map(({ id, reason, cidr }) => ({ id, reason, ranges: cidr.map(parseRange) }));
  }

  /** Whether a name may be resolved, and on which ports something may answer to it. */
  name(text: string): NameDecision {
    const found = this.#find(readHost(text));
    if (found.kind !== 'found') return found;
    const { rules, upstreams, name } = found;
    const ports = new Set([...rules.flatMap(({ rule }) => rule.ports), ...upstreams.map(({ port }) => port)]);
    const isExact = upstreams.length > 0 || rules.some(({ rule }) => rule.host.includes(name));
    return { kind: 'listed', ports: [...ports].sort((a, b) => a - b), suffix: !isExact };
  }

  /** What is to be done with a connection, before its first byte is read. */
  connection({ host, port }: { readonly host: string; readonly port: number }): ConnectionDecision {
    const found = this.#find(readHost(host));
    if (found.kind !== 'found') return found;
    const upstream = found.upstreams.find((one) => one.port === port);
    if (upstream !== undefined) return { kind: 'upstream', upstream };
    const rules = found.rules.filter(({ rule }) => rule.ports.includes(port)).map(({ rule }) => rule);
    const [first] = rules;
    if (first === undefined) {
      const ports = [...found.rules.flatMap(({ rule }) => rule.ports), ...found.upstreams.map((one) => one.port)];
      return unlisted(`${found.name} is named for port ${[...new Set(ports)].join(', ')}, not ${port}`);
    }
    // A policy in which they differ is not compiled; of two, the one that sees more.
    if (rules.some(({ tls }) => tls === 'terminate')) return { kind: 'terminate' };
    if (rules.some(({ tls }) => tls === 'none')) return { kind: 'plain' };
    return { kind: 'pass_through', rule: first };
  }

  /** Of the first byte of a request; a redirect and the next request on the same connection are asked again. */
  decide(asked: EgressRequest): EgressDecision {
    const { method, websocket = false } = asked;
    const read = readUrl(asked);
    if (read.kind === 'ambiguous') return { kind: 'denied', id: 'egress.ambiguous', reason: read.reason };
    const { url } = read;
    const found = this.#find(url.isAddress ? { kind: 'address', address: url.host } : { kind: 'name', name: url.host });
    if (found.kind !== 'found') return found;
    const why = found.rules.map((candidate) => mismatch(candidate, method, url, websocket));
    const rule = found.rules[why.indexOf(undefined)]?.rule;
    if (rule?.approval !== undefined)
      return {
        kind: 'denied',
        id: `approvals.${rule.approval}`,
        reason: `the rule ${rule.id} needs an approval (${rule.approval}), which a request cannot wait for`,
      };
    if (rule !== undefined) return { kind: 'allowed', rule };
    const reasons = found.rules.map((candidate, at) => `${candidate.rule.id} ${why[at]}`);
    return unlisted(reasons.length === 0 ? `${url.host} is an upstream, not a web server` : reasons.join('; '));
  }

  /** Whether an answer of the resolver may be dialled. Every answer has to be asked for. */
  address(rule: Pick<EffectiveEgressRule, 'addresses'> | undefined, ip: string): AddressDecision {
    const bytes = addressBytes(ip);
    if (bytes === undefined) return denied('egress.address', `${JSON.stringify(ip.slice(0, 60))} is no address`);
    const all = [bytes, ...embeddedAddresses(bytes)];
    const named = rule === undefined ? [] : this.#rangesOf(rule.addresses);
    for (const { id, reason, ranges } of this.#ranges)
      if (all.some((one) => ranges.some((range) => isIn(range, one)))) return denied(id, reason);
    for (const one of all) {
      const found = classOfAddress(one);
      if (neverReached.has(found))
        return denied('egress.address', `${ip} is a ${found} address, which is never reached`);
      if (found !== 'public' && !named.some((range) => isIn(range, one)))
        return denied('egress.address', `${ip} is a ${found} address, and no rule names it in addresses`);
    }
    return { kind: 'allowed', named: named.some((range) => isIn(range, bytes)) };
  }

  /** Of a rule they are asked for with every request. */
  #rangesOf(addresses: readonly string[]): readonly AddressRange[] {
    const known = this.#named.get(addresses);
    if (known !== undefined) return known;
    const ranges = addresses.map(parseRange);
    this.#named.set(addresses, ranges);
    return ranges;
  }

  /** What would be allowed instead, and who could allow more; for programs and models to read. */
  hint({ host, port }: { readonly host: string; readonly port?: number }): string {
    const found = this.#find(readHost(host));
    if (found.kind === 'denied') return 'No profile can allow it. Do without it.';
    const rules = (found.kind === 'found' ? found.rules : this.#rules).map(({ rule }) => rule);
    const upstreams = (found.kind === 'found' ? found.upstreams : this.#egress.upstreams).map(
      (one) => `${one.host}:${one.port}`,
    );
    const listed = [...new Set([...rules.map(ruleText), ...upstreams])];
    const shown =
      listed.length === 0
        ? 'nothing'
        : `${listed.slice(0, hintMax).join('; ')}${listed.length > hintMax ? '; ...' : ''}`;
    const place = port === undefined ? host.slice(0, 100) : `${host.slice(0, 100)}:${port}`;
    return `This run may reach: ${shown}. For more, the owner of the policy adds a rule for ${place} to one of its egress profiles.`;
  }

  /** The rules that name a host; or why none may. */
  #find(host: Host): Found | Denied | Unlisted {
    if (host.kind === 'bad') return denied('egress.ambiguous', host.reason);
    if (host.kind === 'address') {
      const decision = this.address(undefined, host.address);
      return decision.kind === 'denied' ? decision : unlisted(`${host.address} is an address; rules name hosts`);
    }
    const { name } = host;
    const isNamed = (patterns: readonly string[]): boolean => patterns.some((pattern) => matchesHost(pattern, name));
    const no = this.#egress.deny.find((one) => isNamed(one.host));
    if (no !== undefined) return denied(no.id, no.reason);
    if (metadataNames.has(name))
      return denied('egress.address', `${name} is a metadata service, which is never reached`);
    const rules = this.#rules.filter(({ rule }) => isNamed(rule.host));
    const upstreams = this.#egress.upstreams.filter((one) => one.host === name);
    if (rules.length === 0 && upstreams.length === 0) return unlisted(`no profile of this run names ${name}`);
    return { kind: 'found', name, rules, upstreams };
  }
}

function readUrl({ url, read }: EgressRequest): ReturnType<typeof readRequestUrl> {
  return read === undefined ? readRequestUrl(typeof url === 'string' ? url : url.href) : { kind: 'url', url: read };
}

interface Found {
  readonly kind: 'found';
  readonly name: string;
  readonly rules: readonly CompiledRule[];
  readonly upstreams: readonly Upstream[];
}

interface CompiledRule {
  readonly rule: EffectiveEgressRule;
  readonly paths: readonly PathPattern[];
}

const hintMax = 8;
const metadataNames: ReadonlySet<string> = new Set([
  'metadata.google.internal',
  'metadata.goog',
  'metadata',
  'instance-data',
]);

function mismatch(
  { rule, paths }: CompiledRule,
  method: string,
  url: RequestUrl,
  websocket: boolean,
): string | undefined {
  const scheme = rule.tls === 'none' ? 'http' : 'https';
  if (url.scheme !== scheme) return `is for ${scheme}://`;
  if (!rule.ports.includes(url.port)) return `is for port ${rule.ports.join(', ')}`;
  if (rule.tls === 'pass_through') return undefined; // nothing of the rest is seen
  if (websocket && !rule.websocket) return 'takes no WebSocket connections';
  if (!rule.methods.includes(method)) return `is for ${rule.methods.join(', ')}`;
  if (url.segments.length !== url.splitSegments.length && !rule.allowEncodedSlash) return 'takes no encoded slash';
  const matches = [url.segments, url.splitSegments].every((segments) =>
    paths.some((path) => matchesPath(path, segments)),
  );
  if (!matches) return `is for ${rule.path.join(', ')}`;
  return matchesQuery(rule.query, url.query) ? undefined : `is for the query ${queryText(rule.query)}`;
}

/** Every parameter that is there is named and there once; every one with a value is there. */
function matchesQuery(wanted: Readonly<Record<string, string>>, query: string | undefined): boolean {
  if (Object.keys(wanted).length === 0) return true;
  if (query?.includes(';') === true) return false; // some take it for an ampersand
  const there = new Map<string, string>();
  for (const part of query === undefined || query === '' ? [] : query.split('&')) {
    const [name, value] = [part.split('=', 1)[0] ?? '', part.includes('=') ? part.slice(part.indexOf('=') + 1) : ''];
    if (there.has(name) || !Object.hasOwn(wanted, name)) return false;
    there.set(name, value);
  }
  return Object.entries(wanted).every(
    ([name, value]) => value === '*' || there.get(name) === encodeURIComponent(value),
  );
}

function queryText(query: Readonly<Record<string, string>>): string {
  return Object.entries(query)
    .map(([name, value]) => `${name}=${value}`)
    .join('&');
}

/** As policies are read: `GET, HEAD https://host/**`. */
export function ruleText(rule: EffectiveEgressRule): string {
  const { tls, methods, host, ports, path, query } = rule;
  const standard = tls === 'none' ? 80 : 443;
  const hosts = host.join(', ') + (ports.length === 1 && ports[0] === standard ? '' : `:${ports.join(',')}`);
  if (tls === 'pass_through') return `anything to ${hosts} over TLS`;
  const asked = queryText(query);
  return `${methods.join(', ')} ${tls === 'none' ? 'http' : 'https'}://${hosts} ${path.join(', ')}${asked === '' ? '' : `?${asked}`}`;
}

function denied(id: string, reason: string): Denied {
  return { kind: 'denied', id, reason };
}

function unlisted(reason: string): Unlisted {
  return { kind: 'unlisted', id: 'egress.profiles', reason };
}
