import { isIPv6 } from 'node:net';
import { readRequestUrl, type RequestUrl } from '../../policy/decisions/request-url.ts';

/** Where a request wants to go, as its head says it. */
export interface Named {
  readonly method: string;
  /** As it stands in the request line, or in `:path`. */
  readonly target: string;
  /** What `:scheme` says, in HTTP/2. */
  readonly scheme?: string;
  /** Every Host and `:authority`. */
  readonly hosts: readonly string[];
}

/** Where the connection goes, as the client named it when it opened it. */
export interface Place {
  readonly scheme: 'http' | 'https';
  readonly host: string;
  readonly port: number;
}

export type Target = RequestTarget | Misfit;

/** In one form: what is judged is what is sent on. */
export interface RequestTarget {
  readonly kind: 'target';
  readonly url: URL;
  /** The same as text, which keeps what `URL` would write in another way. */
  readonly text: string;
  /** What rules read in `text`. */
  readonly read: RequestUrl;
  /** Path and query of `text`. */
  readonly path: string;
}

export interface Misfit {
  readonly kind: 'misfit';
  /** Of the answer. */
  readonly status: number;
  readonly reason: string;
}

/**
 * The one URL that a request is for. A misfit is whatever two readers could take for two things: another or no or two Hosts,
 * a target in a form of proxies, and all that `readRequestUrl` does not read.
 */
export function targetOf(named: Named, place: Place): Target {
  if (!/^[A-Z]{3,20}$/.test(named.method)) return misfit(400, 'a method is a word in upper case');
  if (named.method === 'TRACE' || named.method === 'TRACK' || named.method === 'CONNECT') {
    return misfit(405, `${named.method} is not carried here`);
  }
  const [host, ...more] = named.hosts;
  if (host === undefined) return misfit(400, 'the request names no host');
  if (more.length > 0) return misfit(400, 'the request names its host more than once');
  if (named.scheme !== undefined && named.scheme !== place.scheme) {
    return misfit(421, `the request is for ${named.scheme}, the connection is ${place.scheme}`);
  }
  if (!isAt(host, place)) return misfit(421, `the request is for ${host}, the connection for ${authorityOf(place)}`);
  return pathTarget(named.target, place);
}

/** `http://authority/path`, as clients ask a proxy; the Host beside it has to say the same. */
export function absoluteTarget(named: Named): { readonly place: Place; readonly target: string } | Misfit {
  const [, authority, target = ''] = /^http:\/\/([^/?#]*)([/?].*)?$/i.exec(named.target) ?? [];
  if (authority === undefined) {
    return /^https:/i.test(named.target)
      ? misfit(400, 'https is reached with CONNECT, not in absolute form')
      : misfit(400, 'this is a proxy: it takes CONNECT host:port and http:// URLs');
  }
  const place = parseAuthority(authority, 80);
  if (place === undefined) return misfit(400, `${authority} is not a host name, or a host name and a port`);
  return { place: { scheme: 'http', ...place }, target: target.startsWith('/') ? target : `/${target}` };
}

/**
 * `name` or `name:port`, the port without sign or leading zero; no user, no brackets, no escapes, no dot at the end:
 * what is not a plain name is taken apart by nobody. With no `defaultPort` the port must be there. Undefined where it is anything else.
 */
export function parseAuthority(
  authority: string,
  defaultPort: number | undefined,
): { readonly host: string; readonly port: number } | undefined {
  const [, name, digits] = /^([\w-]+(?:\.[\w-]+)*)(?::([1-9]\d{0,4}))?$/.exec(authority) ?? [];
  const port = digits === undefined ? defaultPort : Number(digits);
  if (name === undefined || name.length > 253 || port === undefined || port > 65_535) return undefined;
  return { host: name.toLowerCase(), port };
}

/** `host` where the port is the scheme's own, else `host:port`. */
export function authorityOf({ scheme, host, port }: Place): string {
  const shown = isIPv6(host) ? `[${host}]` : host;
  return port === defaultPorts[scheme] ? shown : `${shown}:${port}`;
}

function pathTarget(target: string, place: Place): Target {
  if (!target.startsWith('/')) return misfit(400, 'the target is not a path; here is a server, not a proxy');
  const origin = `${place.scheme}://${authorityOf(place)}`;
  const asked = readRequestUrl(`${origin}${target}`);
  if (asked.kind === 'ambiguous') return misfit(400, asked.reason);
  const path = `${asked.url.path}${asked.url.query === undefined ? '' : `?${asked.url.query}`}`;
  const text = `${origin}${path}`;
  const read = path === target ? asked : readRequestUrl(text);
  if (read.kind === 'ambiguous') return misfit(400, read.reason);
  const url = urlOf(text);
  // What only looks like Punycode is a name to the rules and none to `URL`.
  if (url === undefined) return misfit(400, `${authorityOf(place)} is not a host name`);
  return { kind: 'target', url, text, read: read.url, path };
}

function urlOf(text: string): URL | undefined {
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}

function isAt(host: string, place: Place): boolean {
  const lower = host.toLowerCase();
  const own = authorityOf(place);
  return lower === own || (own === place.host && lower === `${own}:${place.port}`);
}

function misfit(status: number, reason: string): Misfit {
  return { kind: 'misfit', status, reason };
}

const defaultPorts = { http: 80, https: 443 };
