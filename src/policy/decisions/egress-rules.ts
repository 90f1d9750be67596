import { BlockList, isIP } from 'node:net';
import { parseGlob, type Glob } from '../../workspace/scope/glob.ts';
import type { EgressRule } from '../language/egress.ts';
import type { Policy } from '../layers/effective-policy.ts';

export interface EgressRequest {
  readonly method: string;
  readonly url: URL;
}

export type EgressDecision =
  | { readonly kind: 'allowed'; readonly rule: EgressRule & { readonly profile: string } }
  | { readonly kind: 'denied'; readonly id: string; readonly reason: string }
  | { readonly kind: 'unlisted'; readonly reason: string };

/** What the egress rules say of a request, as data: it is decided here and carried out elsewhere. */
export class EgressRules {
  readonly #deny: Policy['egress']['deny'];
  readonly #rules: readonly { readonly rule: Policy['egress']['rules'][number]; readonly paths: readonly Glob[] }[];
  readonly #ranges: ReadonlyMap<string, BlockList>;

  constructor({ rules, deny }: Policy['egress']) {
    this.#deny = deny;
    this.#rules = rules.map((rule) => ({ rule, paths: (rule.path ?? ['/**']).flatMap((path) => pathGlobs(path)) }));
    this.#ranges = new Map(deny.map(({ id, cidr }) => [id, rangesOf(cidr ?? [])]));
  }

  decide({ method, url }: EgressRequest): EgressDecision {
    const host = hostOf(url);
    for (const { id, host: hosts, reason } of this.#deny) {
      const named = hosts?.some((pattern) => matchesHost(pattern, host)) === true;
      if (named || this.#inRange(id, host)) return { kind: 'denied', id, reason: reason ?? `${host} is never reached` };
    }
    const ofHost = this.#rules.filter(({ rule }) => rule.host.some((pattern) => matchesHost(pattern, host)));
    if (ofHost.length === 0) return { kind: 'unlisted', reason: `no profile of this run names ${host}` };
    const why = ofHost.map((candidate) => mismatch(candidate, method, url));
    const found = ofHost[why.indexOf(undefined)];
    if (found !== undefined) return { kind: 'allowed', rule: found.rule };
    return { kind: 'unlisted', reason: ofHost.map(({ rule }, at) => `${rule.id} ${why[at]}`).join('; ') };
  }

  #inRange(id: string, host: string): boolean {
    const family = isIP(host);
    if (family === 0) return false;
    return this.#ranges.get(id)?.check(host, family === 4 ? 'ipv4' : 'ipv6') === true;
  }
}

/** `GET https://example.org/x`, or the URL alone; undefined where it is none. */
export function parseEgressRequest(text: string): EgressRequest | undefined {
  const [, method = 'GET', address = ''] = /^(?:([A-Z]{3,10})\s+)?(\S+)$/.exec(text.trim()) ?? [];
  if (!/^https?:\/\//i.test(address) || !URL.canParse(address)) return undefined;
  return { method, url: new URL(address) };
}

function matchesHost(pattern: string, host: string): boolean {
  if (pattern.startsWith('**.')) return host.endsWith(pattern.slice(2)) && host.length > pattern.length - 2;
  if (!pattern.startsWith('*.')) return pattern === host;
  const suffix = pattern.slice(1);
  return host.endsWith(suffix) && host.length > suffix.length && !host.slice(0, -suffix.length).includes('.');
}

/** In lower case, without the dot at the end and the brackets of an IPv6 address; IPv4 within IPv6 as IPv4. */
function hostOf(url: URL): string {
  const host = url.hostname
    .toLowerCase()
    .replace(/\.$/, '')
    .replace(/^\[(.*)\]$/, '$1');
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(host);
  if (mapped === null) return host;
  const [high, low] = [Number.parseInt(mapped[1] ?? '', 16), Number.parseInt(mapped[2] ?? '', 16)];
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

function mismatch(
  { rule, paths }: { readonly rule: EgressRule; readonly paths: readonly Glob[] },
  method: string,
  url: URL,
): string | undefined {
  const scheme = rule.tls === 'none' ? 'http:' : 'https:';
  if (url.protocol !== scheme) return `is for ${scheme}//`;
  const port = url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port);
  const ports = rule.ports ?? [443];
  if (!ports.includes(port)) return `is for port ${ports.join(', ')}`;
  const methods: readonly string[] = rule.methods ?? ['GET', 'HEAD'];
  if (!methods.includes(method)) return `is for ${methods.join(', ')}`;
  // What servers read in different ways is not matched at all.
  if (/%2f|%5c|%00|\\|\/\//i.test(url.pathname)) return 'takes no path that can be read in two ways';
  const segments = url.pathname.split('/').slice(1);
  return paths.some((glob) => glob.matches(segments)) ? undefined : `is for ${(rule.path ?? []).join(', ')}`;
}

function pathGlobs(path: string): readonly Glob[] {
  if (path === '/') return [{ matches: (segments) => segments.join('/') === '', covers: false, openings: () => [] }];
  return parseGlob(path.slice(1));
}

function rangesOf(cidrs: readonly string[]): BlockList {
  const ranges = new BlockList();
  for (const cidr of cidrs) {
    const [address = '', bits = ''] = cidr.split('/');
    ranges.addSubnet(address, Number(bits), isIP(address) === 6 ? 'ipv6' : 'ipv4');
  }
  return ranges;
}
