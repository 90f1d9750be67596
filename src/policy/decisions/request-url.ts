import { readHost } from './host-name.ts';

/** The URL of a request, read in the one way in which there is only one. */
export interface RequestUrl {
  readonly scheme: 'http' | 'https';
  /** In lower case, without the last dot; or an address. */
  readonly host: string;
  readonly isAddress: boolean;
  readonly port: number;
  /** As it is to be sent on: normalised, without the query. */
  readonly path: string;
  /** Of the path, decoded; `splitSegments` takes an encoded slash for one. */
  readonly segments: readonly string[];
  readonly splitSegments: readonly string[];
  /** Without the question mark; undefined where there is none. */
  readonly query: string | undefined;
}

/** Where a rule is not asked at all: what is written can be read in more than one way. */
export interface Ambiguous {
  readonly kind: 'ambiguous';
  readonly reason: string;
}

/** Longest URL, in bytes. */
export const urlBytesMax = 8192;

/**
 * Reads `https://host[:port]/path?query` as a client has written it: not through `URL`, which would quietly take away dot
 * segments, turn backslashes and drop line ends. Refused is what servers and proxies read differently (RFC 3986 section 7.3,
 * "Breaking Parser Logic" of B. Tsai): dot segments however they are written, encoded separators, controls and doubly encoded
 * octets, an empty segment, invalid UTF-8, what is no ASCII, a user before the host, a fragment.
 */
export function readRequestUrl(text: string): { readonly kind: 'url'; readonly url: RequestUrl } | Ambiguous {
  if (text.length > urlBytesMax) return ambiguous(`the URL is longer than ${urlBytesMax} bytes`);
  if (!/^[\x21-\x7E]*$/.test(text)) return ambiguous('the URL holds a space, a control character or what is no ASCII');
  if (/[\\#]/.test(text)) return ambiguous('the URL holds a backslash or a fragment');
  if (/%(?![0-9a-fA-F]{2})/.test(text)) return ambiguous('the URL holds a percent sign that encodes nothing');
  const parts = /^(https?):\/\/([^/?]*)(.*)$/i.exec(text);
  const [scheme, authority = '', target = ''] = [parts?.[1], parts?.[2], parts?.[3]];
  if (scheme === undefined) return ambiguous('it is no http or https URL');
  const place = readAuthority(authority, scheme.toLowerCase() === 'http' ? 'http' : 'https');
  if ('reason' in place) return place;
  const mark = target.indexOf('?');
  const path = readPath(mark < 0 ? target : target.slice(0, mark));
  if ('reason' in path) return path;
  return { kind: 'url', url: { ...place, ...path, query: mark < 0 ? undefined : target.slice(mark + 1) } };
}

type Place = Pick<RequestUrl, 'scheme' | 'host' | 'isAddress' | 'port'>;

function readAuthority(authority: string, scheme: 'http' | 'https'): Place | Ambiguous {
  if (authority.includes('@')) return ambiguous('the URL names a user before the host');
  const [, text = '', digits] = /^(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?$/.exec(authority) ?? [];
  if (text === '') return ambiguous('the URL names no host');
  const port = digits === undefined ? (scheme === 'http' ? 80 : 443) : Number(digits);
  if (port < 1 || port > 65_535) return ambiguous('the URL names a port that does not exist');
  const host = readHost(text);
  if (host.kind === 'bad') return ambiguous(host.reason);
  const isAddress = host.kind === 'address';
  return { scheme, host: isAddress ? host.address : host.name, isAddress, port };
}

type Path = Pick<RequestUrl, 'path' | 'segments' | 'splitSegments'>;

function readPath(raw: string): Path | Ambiguous {
  const path = raw === '' ? '/' : raw;
  const written = path.split('/').slice(1);
  const segments: string[] = [];
  for (const segment of written) {
    const isLast = segments.length === written.length - 1;
    if (segment === '' && !isLast) return ambiguous('the path holds an empty segment');
    const read = decoded(segment);
    if (read === undefined) return ambiguous('the path holds octets that are no UTF-8');
    const why = wrongSegment(read);
    if (why !== undefined) return ambiguous(why);
    segments.push(read);
  }
  const isSplit = segments.some((segment) => segment.includes('/'));
  const splitSegments = isSplit ? segments.flatMap((segment) => segment.split('/')) : segments;
  if (splitSegments.some((segment, at) => segment === '' && at < splitSegments.length - 1))
    return ambiguous('the path holds an empty segment');
  const normal = path.includes('%') ? `/${written.map(normalised).join('/')}` : path;
  return { path: normal, segments, splitSegments };
}

function wrongSegment(segment: string): string | undefined {
  // Compatibility forms, such as a full-width slash, are turned into the plain ones by some servers.
  const isPlain = /^[\x20-\x7E]*$/.test(segment);
  for (const text of isPlain ? [segment] : [segment, segment.normalize('NFKC')]) {
    if (text.split('/').some((part) => /^\.{1,2}(;|$)/.test(part))) return 'the path holds a . or .. segment';
    if (text.includes('\\')) return 'the path holds an encoded backslash';
    if (text !== segment && text.split('/').length !== segment.split('/').length)
      return 'the path holds what some read as a slash';
  }
  // oxlint-disable-next-line no-control-regex
  if (/[\u0000-\u001F\u007F-\u009F]/.test(segment)) return 'the path holds an encoded control character';
  return /%[0-9a-fA-F]{2}/.test(segment) ? 'the path is encoded twice' : undefined;
}

function decoded(text: string): string | undefined {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** What need not be encoded is not, the rest in upper case (RFC 3986 section 6.2.2). */
function normalised(segment: string): string {
  return segment.replaceAll(/%[0-9a-fA-F]{2}/g, (octet) => {
    const char = String.fromCodePoint(Number.parseInt(octet.slice(1), 16));
    return /[A-Za-z0-9._~-]/.test(char) ? char : octet.toUpperCase();
  });
}

function ambiguous(reason: string): Ambiguous {
  return { kind: 'ambiguous', reason };
}
