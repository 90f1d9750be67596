import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import type { Digest } from './digest.ts';

/** A multiple of three, so that base64 of the parts is base64 of the whole. */
const rowBytes = 3 * 262_144;

/** What takes long of many megabytes, a part at a time: everybody else has a turn in between. */
export async function joinBytes(parts: readonly Uint8Array[]): Promise<Buffer> {
  const whole = Buffer.allocUnsafeSlow(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  let turnAt = 0;
  for (const part of parts)
    for (const row of rowsOf(part)) {
      whole.set(row, at);
      at += row.length;
      if (at - turnAt < rowBytes) continue;
      turnAt = at;
      await setImmediate();
    }
  return whole;
}

export async function toBase64(bytes: Uint8Array): Promise<string> {
  const parts: string[] = [];
  for (const row of rowsOf(bytes)) {
    parts.push(row.toString('base64'));
    if (bytes.length > rowBytes) await setImmediate();
  }
  return parts.join('');
}

/** Of base64 with padding at its end alone, as `toBase64` makes it. */
export async function fromBase64(text: string): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let at = 0; at < text.length; at += rowBytes) {
    parts.push(Buffer.from(text.slice(at, at + rowBytes), 'base64'));
    if (text.length > rowBytes) await setImmediate();
  }
  const [only] = parts;
  return parts.length === 1 && only !== undefined ? only : joinBytes(parts);
}

/** Of UTF-8 without a mistake. */
export async function toText(bytes: Uint8Array): Promise<string> {
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts: string[] = [];
  for (let from = 0; from < whole.length;) {
    let to = Math.min(from + rowBytes, whole.length);
    while (to < whole.length && ((whole[to] ?? 0) & 0xc0) === 0x80) to++;
    parts.push(whole.toString('utf8', from, to));
    from = to;
    if (whole.length > rowBytes) await setImmediate();
  }
  return parts.join('');
}

export async function fromText(text: string): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let from = 0; from < text.length;) {
    let to = Math.min(from + rowBytes, text.length);
    if (isPairAt(text, to)) to++;
    parts.push(Buffer.from(text.slice(from, to), 'utf8'));
    from = to;
    if (text.length > rowBytes) await setImmediate();
  }
  const [only] = parts;
  return parts.length === 1 && only !== undefined ? only : joinBytes(parts);
}

export async function digestOfLong(bytes: Uint8Array): Promise<Digest> {
  const hash = createHash('sha256');
  for (const row of rowsOf(bytes)) {
    hash.update(row);
    if (bytes.length > rowBytes) await setImmediate();
  }
  return `sha256:${hash.digest('hex')}`;
}

export function* rowsOf(bytes: Uint8Array): Generator<Buffer, void> {
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < whole.length; at += rowBytes) yield whole.subarray(at, at + rowBytes);
}

/** The two halves of one character are before and behind this place. */
function isPairAt(text: string, at: number): boolean {
  const [before, behind] = [text.charCodeAt(at - 1), text.charCodeAt(at)];
  return (before & 0xfc00) === 0xd800 && (behind & 0xfc00) === 0xdc00;
}
