import { isUtf8 } from 'node:buffer';
import { toBase64, toText } from '../long-bytes.ts';
import type { BytesView } from './tool-result.ts';

export function viewBytes(bytes: Buffer): BytesView {
  const utf8 = isUtf8(bytes);
  return {
    // What is no text is looked at in its first part: written out, each byte of it would take three.
    text: bytes.toString('utf8', 0, utf8 ? bytes.length : Math.min(bytes.length, binaryShownMax)),
    utf8,
    base64: utf8 ? null : bytes.toString('base64'),
    bytes: bytes.length,
  };
}

/** The same of many megabytes, for which nobody else waits. */
export async function viewLong(bytes: Buffer): Promise<BytesView> {
  const utf8 = isUtf8(bytes);
  return {
    text: utf8 ? await toText(bytes) : bytes.toString('utf8', 0, Math.min(bytes.length, binaryShownMax)),
    utf8,
    base64: utf8 ? null : await toBase64(bytes),
    bytes: bytes.length,
  };
}

const binaryShownMax = 1_048_576;

/** Length without the beginning of a character at the end whose rest is missing. Bytes that are no UTF-8 at all stay. */
export function wholeCharacters(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    if ((byte & 0xc0) === 0x80) continue;
    const needs = byte >= 0xf0 && byte < 0xf5 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc2 ? 2 : 1;
    return byte < 0xf5 && needs > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}

/** How many bytes at the front belong to a character that began before. */
export function continuationBytes(bytes: Buffer): number {
  let count = 0;
  while (count < Math.min(3, bytes.length) && ((bytes[count] ?? 0) & 0xc0) === 0x80) count++;
  return count;
}
