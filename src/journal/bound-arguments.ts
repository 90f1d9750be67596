import { createHash, randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { canonicalJson, digestOf, type Digest } from '../digest.ts';
import { textMax, type Draft } from './entry.ts';
import { isJson } from './json.ts';

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
type Bounded = {
  readonly arguments: { [key: string]: Json };
  readonly argsDigest: Digest;
  /** Nothing of them was shortened: whoever has `arguments` has all. */
  readonly wholly: boolean;
  readonly whole: WholeArguments;
};

/** The canonical JSON that `argsDigest` names; in pieces, each of which is done with before the next, where it is long. */
export interface WholeArguments {
  readonly json: string | Iterable<Uint8Array>;
  readonly bytes: number;
}

type Outline = { digest: Digest; bytes: number; head: string };
interface Bounding {
  /** Of bytes that are too many to be worked on at once. */
  readonly known: ReadonlyMap<Uint8Array, Outline>;
  wholly: boolean;
}

const stringBytesMax = 1024;
const membersMax = 64;
const depthMax = 8;
const argumentsBytesMax = 32_768;
const headBytes = 120;
const shownBytesMax = 4096;
/** More bytes than these are worked on piece by piece, and others have their turn in between. As base64 they leave no rest. */
const pieceBytes = 768 * 1024;

/**
 * A tool's arguments as a journal keeps them: short values as they are, a long string or bytes as digest, size and head.
 * `argsDigest` names the whole: sha256 of the canonical JSON, where bytes stand as base64.
 */
export async function boundArguments(value: unknown): Promise<Bounded> {
  const large = largeIn(value);
  const known = new Map<Uint8Array, Outline>();
  for (const bytes of large) known.set(bytes, await outlineOf([bytes]));
  const bounding = { known, wholly: large.length === 0 };
  const json = large.length === 0 ? canonicalJson(value) : { [Symbol.iterator]: () => jsonOf(value, large) };
  const outlined = typeof json === 'string' ? outline(Buffer.from(json)) : await outlineOf(json);
  const { digest: argsDigest, bytes } = outlined;
  const whole = { json, bytes };
  const short = bound(value, 0, bounding);
  // What was not shortened has as many bytes as the canonical JSON of the whole.
  const shortBytes = bounding.wholly ? bytes : Buffer.byteLength(JSON.stringify(short));
  if (!isMembers(short) || shortBytes > argumentsBytesMax)
    return { arguments: { large: outlined }, argsDigest, wholly: false, whole };
  return { arguments: { ...short }, argsDigest, wholly: bounding.wholly, whole };
}

/** The same value with many bytes as digest, size and head, and few as base64: to be shown, and to be bound to what is shown. */
export async function outlineBytes(value: unknown): Promise<unknown> {
  if (value instanceof Uint8Array) return value.length > shownBytesMax ? outlineOf([value]) : canonicalBase64(value);
  if (Array.isArray(value)) return Promise.all(value.map(outlineBytes));
  if (typeof value !== 'object' || value === null) return value;
  const members = Object.entries(value).map(async ([key, member]) => [key, await outlineBytes(member)] as const);
  return Object.fromEntries(await Promise.all(members));
}

function canonicalBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

function largeIn(value: unknown, found: Uint8Array[] = []): readonly Uint8Array[] {
  if (value instanceof Uint8Array) {
    if (value.length > pieceBytes) found.push(value);
  } else if (typeof value === 'object' && value !== null)
    for (const member of Object.values(value)) largeIn(member, found);
  return found;
}

/** Canonical JSON piece by piece, where the large ones stand as base64. */
function* jsonOf(value: unknown, large: readonly Uint8Array[]): Generator<Uint8Array> {
  const bytesAt = new Map(large.map((bytes) => [randomUUID() as string, bytes]));
  const placeOf = new Map([...bytesAt].map(([place, bytes]) => [bytes, place]));
  const text = canonicalJson(withPlaces(value, placeOf));
  const scratch = Buffer.allocUnsafe((pieceBytes / 3) * 4); // each piece is done with before the next
  for (const part of text.split(new RegExp(`(${[...bytesAt.keys()].join('|')})`))) {
    const bytes = bytesAt.get(part);
    if (bytes === undefined) yield Buffer.from(part);
    else
      for (const piece of piecesOf(bytes)) yield scratch.subarray(0, scratch.write(canonicalBase64(piece), 'latin1'));
  }
}

function withPlaces(value: unknown, places: ReadonlyMap<Uint8Array, string>): unknown {
  if (value instanceof Uint8Array) return places.get(value) ?? value;
  if (Array.isArray(value)) return value.map((item) => withPlaces(item, places));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, withPlaces(member, places)]));
}

async function outlineOf(parts: Iterable<Uint8Array>): Promise<Outline> {
  const hash = createHash('sha256');
  let [bytes, head] = [0, Buffer.alloc(0)];
  for (const part of parts)
    for (const piece of piecesOf(part)) {
      if (head.length < headBytes) head = Buffer.concat([head, piece.subarray(0, headBytes - head.length)]);
      hash.update(piece);
      bytes += piece.length;
      await setImmediate();
    }
  return { digest: `sha256:${hash.digest('hex')}`, bytes, head: head.toString('utf8') };
}

function* piecesOf(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

/** Clips every text that is too long to be recorded, so that no outcome is ever lost for its length. The draft itself where none is. */
export function clipTexts(draft: Draft): Draft {
  if (isJson(draft, textMax)) return draft;
  return JSON.parse(JSON.stringify(draft), (_, value: unknown) =>
    typeof value === 'string' && value.length > textMax ? clip(value) : value,
  ) as Draft;
}

function clip(value: string): string {
  return `${value.slice(0, textMax)} [${value.length - textMax} more clipped]`;
}

function bound(value: unknown, depth: number, bounding: Bounding): Json {
  if (typeof value === 'string')
    return Buffer.byteLength(value) <= stringBytesMax ? value : shortened(Buffer.from(value), bounding);
  if (value instanceof Uint8Array) return bounding.known.get(value) ?? shortened(value, bounding);
  if (value === null || typeof value === 'boolean' || typeof value === 'number') return value;
  if (depth >= depthMax) return shortened(Buffer.from(canonicalJson(value)), bounding);
  if (Array.isArray(value)) {
    const kept = value.slice(0, membersMax).map((item) => bound(item, depth + 1, bounding));
    if (value.length <= membersMax) return kept;
    bounding.wholly = false;
    return [...kept, `${value.length - membersMax} more`];
  }
  if (typeof value === 'object') {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    if (members.length > membersMax) return shortened(Buffer.from(canonicalJson(value)), bounding);
    return Object.fromEntries(
      members.map(([key, member]) => [safeKey(key, bounding), bound(member, depth + 1, bounding)]),
    );
  }
  throw new TypeError(`a journal cannot hold a ${typeof value}`);
}

/** A schema drops `__proto__` in silence, and what is recorded must be what was asked. */
function safeKey(key: string, bounding: Bounding): string {
  const safe = key === '__proto__' ? '[__proto__]' : key.slice(0, 256);
  if (safe !== key) bounding.wholly = false;
  return safe;
}

function shortened(bytes: Uint8Array, bounding: Bounding): Outline {
  bounding.wholly = false;
  return outline(bytes);
}

function outline(bytes: Uint8Array): Outline {
  const head = Buffer.from(bytes.subarray(0, headBytes)).toString('utf8');
  return { digest: digestOf(bytes), bytes: bytes.length, head };
}

function isMembers(value: Json): value is { readonly [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
