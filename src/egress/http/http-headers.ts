import { refusalHeader } from './refusal.ts';
import type { HeaderPair } from './http-deps.ts';

/**
 * What goes on to the upstream. Headers of the one connection (RFC 9110, 7.6.1) stay here, and so do those that frame or
 * address the message: they are written anew from what was understood and judged.
 */
export function requestHeaders(headers: readonly HeaderPair[]): readonly HeaderPair[] {
  return without(headers, droppedFromRequests);
}

/** What comes back. An upstream can neither frame the answer, nor send clients elsewhere behind our back, nor speak as us. */
export function responseHeaders(headers: readonly HeaderPair[]): readonly HeaderPair[] {
  return without(headers, droppedFromResponses);
}

/** Headers by which some servers take another method or path than those that were judged. */
const overrides: ReadonlySet<string> = new Set([
  'x-http-method',
  'x-http-method-override',
  'x-method-override',
  'x-original-url',
  'x-rewrite-url',
]);

/** A request that would be another one to such a server. */
export function overrideIn({ method, headers }: { readonly method: string; readonly headers: readonly HeaderPair[] }) {
  const found = headers.find(([name, value]) => overrides.has(name.toLowerCase()) && value !== method);
  if (found === undefined) return undefined;
  return { status: 400, reason: `the header ${found[0]} asks for another method or path than the request itself` };
}

export function valuesOf(headers: readonly HeaderPair[], name: string): readonly string[] {
  const values: string[] = [];
  for (const [own, value] of headers) if (own.length === name.length && own.toLowerCase() === name) values.push(value);
  return values;
}

function without(headers: readonly HeaderPair[], dropped: ReadonlySet<string>): readonly HeaderPair[] {
  const named = connectionTokens(headers);
  return headers.filter(([name]) => {
    const lower = name.toLowerCase();
    return !dropped.has(lower) && !named.has(lower);
  });
}

/** The length that a message declares; undefined where it declares none, or none that can be believed. */
export function contentLength(headers: readonly HeaderPair[]): number | undefined {
  const [value, ...more] = valuesOf(headers, 'content-length');
  if (value === undefined || more.length > 0 || !/^\d{1,15}$/.test(value)) return undefined;
  return Number(value);
}

/** `[name, value, name, value, ...]`, as Node and undici give and take them. */
export function pairsOf(flat: readonly (string | Buffer)[]): readonly HeaderPair[] {
  const pairs: HeaderPair[] = [];
  for (let at = 0; at + 1 < flat.length; at += 2) pairs.push([textOf(flat[at]), textOf(flat[at + 1])]);
  return pairs;
}

export function flatOf(headers: readonly HeaderPair[]): string[] {
  const flat: string[] = [];
  for (const [name, value] of headers) flat.push(name, value);
  return flat;
}

/** As bytes of a message in HTTP/1.1, whatever it travels in: what rules count. */
export function headBytes(line: string, headers: readonly HeaderPair[]): number {
  return headers.reduce((sum, [name, value]) => sum + name.length + value.length + 4, line.length + 4);
}

function textOf(value: string | Buffer | undefined): string {
  return typeof value === 'string' ? value : (value?.toString('latin1') ?? '');
}

function connectionTokens(headers: readonly HeaderPair[]): ReadonlySet<string> {
  const lists = valuesOf(headers, 'connection');
  if (lists.length === 0) return none;
  return new Set(lists.flatMap((list) => list.split(',')).map((token) => token.trim().toLowerCase()));
}

const none: ReadonlySet<string> = new Set();

const ofTheConnection = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'content-length',
];

const droppedFromRequests: ReadonlySet<string> = new Set([
  ...ofTheConnection,
  'host',
  'expect',
  'proxy-authorization',
  'proxy-authenticate',
]);

const droppedFromResponses: ReadonlySet<string> = new Set([
  ...ofTheConnection,
  'proxy-authenticate',
  'proxy-authentication-info',
  'alt-svc',
  refusalHeader,
]);
