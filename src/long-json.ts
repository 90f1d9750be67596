import { randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';

/** Of text or bytes that are worked on in a row; what is longer is long. */
export const rowBytes = 262_144;

/**
 * JSON with texts of many megabytes in it, written and read in pieces, so that nobody waits for all of it. What is written is what
 * `JSON.stringify` writes, but for pairs of surrogates that a piece ends between, and what is read is what `JSON.parse` reads.
 */
export function isLong(value: unknown, row = rowBytes): boolean {
  return lengthUpTo(value, row) > row;
}

/** Each is made when it is asked for. Who asks lets others have their turn between two of them. */
export function* jsonPieces(value: unknown, row = rowBytes): Generator<Buffer, void> {
  let held: string[] = [];
  let length = 0;
  for (const part of partsOf(value, row)) {
    held.push(part);
    length += part.length;
    if (length < row) continue;
    yield Buffer.from(held.join(''));
    [held, length] = [[], 0];
  }
  if (length > 0) yield Buffer.from(held.join(''));
}

/** JSON as it came from `jsonPieces`: without white space. Throws what `JSON.parse` throws. */
export async function parseLong(bytes: Buffer, row = rowBytes): Promise<unknown> {
  if (bytes.length <= row) return JSON.parse(bytes.toString('utf8'));
  const mark = `${randomUUID()}:`;
  const long: string[] = [];
  const rest: string[] = [];
  let from = 0;
  let turnAt = 0;
  for (let at = bytes.indexOf(quote); at >= 0; at = bytes.indexOf(quote, at)) {
    const near = endOf(bytes, at + 1, at + row);
    if (near !== undefined) at = near + 1;
    else {
      const { end, text } = await longText(bytes, at + 1, row);
      if (bytes[end] !== colon) {
        rest.push(bytes.toString('utf8', from, at), `"${mark}${long.push(text) - 1}"`);
        from = end;
      }
      at = end;
    }
    if (at - turnAt < row) continue;
    turnAt = at;
    await setImmediate();
  }
  const short = JSON.parse(rest.join('') + bytes.toString('utf8', from)) as unknown;
  const textFor = (text: string): string | undefined =>
    text.startsWith(mark) ? long[Number(text.slice(mark.length))] : text;
  return long.length === 0 ? short : withTexts(short, textFor);
}

const [quote, backslash, colon, letterU] = [0x22, 0x5c, 0x3a, 0x75];

/** Characters, about; it is not looked further than `most`. */
function lengthUpTo(value: unknown, most: number): number {
  if (typeof value === 'string') return value.length;
  if (typeof value !== 'object' || value === null) return 8;
  let length = 2;
  for (const member of Array.isArray(value) ? (value as readonly unknown[]) : Object.values(value)) {
    length += 8 + lengthUpTo(member, most - length);
    if (length > most) break;
  }
  return length;
}

function* partsOf(value: unknown, row: number): Generator<string, void> {
  if (!isLong(value, row)) yield JSON.stringify(value) ?? 'null';
  else if (typeof value === 'string') yield* partsOfText(value, row);
  else if (Array.isArray(value)) {
    for (const [at, item] of (value as readonly unknown[]).entries()) {
      yield at === 0 ? '[' : ',';
      yield* partsOf(item, row);
    }
    yield ']';
  } else {
    let before = '{';
    for (const [key, member] of Object.entries(value as object) as [string, unknown][]) {
      if (member === undefined) continue;
      yield `${before}${JSON.stringify(key)}:`;
      yield* partsOf(member, row);
      before = ',';
    }
    yield before === '{' ? '{}' : '}';
  }
}

function* partsOfText(text: string, row: number): Generator<string, void> {
  yield '"';
  for (let at = 0; at < text.length; at += row) yield JSON.stringify(text.slice(at, at + row)).slice(1, -1);
  yield '"';
}

/** Where the text that is looked at from `at` on has its last quote; undefined where that is not before `until`. */
function endOf(bytes: Buffer, at: number, until: number): number | undefined {
  let place = at;
  while (place < until && place < bytes.length && bytes[place] !== quote) place += stepAt(bytes, place);
  return place < until || place >= bytes.length ? place : undefined;
}

/** What stands for one character, or is a byte of one. */
function stepAt(bytes: Buffer, at: number): number {
  if (bytes[at] !== backslash) return 1;
  return bytes[at + 1] === letterU ? 6 : 2;
}

/** And what is behind its last quote. */
async function longText(bytes: Buffer, start: number, row: number): Promise<{ end: number; text: string }> {
  const parts: string[] = [];
  let [from, at] = [start, start];
  while (at < bytes.length && bytes[at] !== quote) {
    at += stepAt(bytes, at);
    if (at - from < row || ((bytes[at] ?? 0) & 0xc0) === 0x80) continue;
    parts.push(textOf(bytes, from, at));
    from = at;
    await setImmediate();
  }
  return { end: at + 1, text: parts.join('') + textOf(bytes, from, at) };
}

function textOf(bytes: Buffer, from: number, to: number): string {
  return JSON.parse(`"${bytes.toString('utf8', from, to)}"`) as string;
}

function withTexts(value: unknown, textFor: (text: string) => string | undefined): unknown {
  if (typeof value === 'string') return textFor(value);
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((item: unknown) => withTexts(item, textFor));
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, withTexts(member, textFor)]));
}
