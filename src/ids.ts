import { randomBytes } from 'node:crypto';

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz'; // Crockford base32: no i, l, o, u

/** 26 characters, sorts by creation time (a ULID in lower case). Used for runs, sandboxes and instances. */
export function newId(nowMs: number = Date.now()): string {
  let time = '';
  for (let left = nowMs, n = 0; n < 10; n++) {
    time = alphabet[left % 32] + time;
    left = Math.floor(left / 32);
  }
  let random = '';
  for (const byte of randomBytes(16)) random += alphabet[byte % 32];
  return time + random;
}

/** When it was made, as its first characters say; for ids that we have made. */
export function timeOfId(id: string): number {
  let ms = 0;
  for (const char of id.slice(0, 10)) ms = ms * 32 + Math.max(0, alphabet.indexOf(char));
  return ms;
}

export const idPattern = /^[0-9a-z]{26}$/;

/** A call's id may be chosen by the harness: letters, digits and `._-`, 1 to 64 of them, never starting with a dot. */
export const callIdPattern = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/;
