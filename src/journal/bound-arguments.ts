import { canonicalJson, digestOf, type Digest } from '../digest.ts';
import { textMax, type Draft } from './entry.ts';

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

const stringBytesMax = 1024;
const membersMax = 64;
const depthMax = 8;
const argumentsBytesMax = 32_768;

/**
 * A tool's arguments as a journal keeps them: short values as they are, a long string or bytes as digest, size and head.
 * `argsDigest` names the whole: sha256 of the canonical JSON, where bytes stand as base64.
 */
export function boundArguments(value: unknown): { arguments: { [key: string]: Json }; argsDigest: Digest } {
  const whole = canonicalJson(plain(value));
  const argsDigest = digestOf(whole);
  const short = bound(value, 0);
  const fits = isMembers(short) && Buffer.byteLength(JSON.stringify(short)) <= argumentsBytesMax;
  return { arguments: fits ? { ...short } : { large: outline(Buffer.from(whole)) }, argsDigest };
}

/** Clips every text that is too long to be recorded, so that no outcome is ever lost for its length. */
export function clipTexts(draft: Draft): Draft {
  const json = JSON.stringify(draft);
  if (json.length <= textMax) return JSON.parse(json) as Draft; // no text in it can be longer
  return JSON.parse(json, (_, value: unknown) =>
    typeof value === 'string' && value.length > textMax ? clip(value) : value,
  ) as Draft;
}

function clip(value: string): string {
  return `${value.slice(0, textMax)} [${value.length - textMax} more clipped]`;
}

function bound(value: unknown, depth: number): Json {
  if (typeof value === 'string')
    return Buffer.byteLength(value) <= stringBytesMax ? value : outline(Buffer.from(value));
  if (value instanceof Uint8Array) return outline(Buffer.from(value));
  if (value === null || typeof value === 'boolean' || typeof value === 'number') return value;
  if (depth >= depthMax) return outline(Buffer.from(canonicalJson(plain(value))));
  if (Array.isArray(value)) {
    const kept = value.slice(0, membersMax).map((item) => bound(item, depth + 1));
    return value.length > membersMax ? [...kept, `${value.length - membersMax} more`] : kept;
  }
  if (typeof value === 'object') {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    if (members.length > membersMax) return outline(Buffer.from(canonicalJson(plain(value))));
    return Object.fromEntries(members.map(([key, member]) => [safeKey(key), bound(member, depth + 1)]));
  }
  throw new TypeError(`a journal cannot hold a ${typeof value}`);
}

/** A schema drops `__proto__` in silence, and what is recorded must be what was asked. */
function safeKey(key: string): string {
  return key === '__proto__' ? '[__proto__]' : key.slice(0, 256);
}

function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, plain(member)]));
  }
  return value;
}

function outline(bytes: Buffer): { digest: Digest; bytes: number; head: string } {
  return { digest: digestOf(bytes), bytes: bytes.length, head: bytes.subarray(0, 120).toString('utf8') };
}

function isMembers(value: Json): value is { readonly [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
