import { randomUUID } from 'node:crypto';

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz'; // Crockford base32: no i, l, o, u

/** 26 characters, sorts by creation time (a ULID in lower case). Used for runs, sandboxes and instances. */
export function newId(nowMs: number = Date.now()): string {
  let time = '';
  for (let left = nowMs, n = 0; n < 10; n++) {
    time = alphabet[left % 32] + time;
    left = Math.floor(left / 32);
  }
  // Node draws the randomness of many at once. What is left out says which kind of UUID it is, and is not random.
  const uuid = randomUUID();
  const hex = uuid.slice(0, 8) + uuid.slice(24);
  let random = '';
  for (let at = 0; at < 20; at += 5) {
    const bits = Number.parseInt(hex.slice(at, at + 5), 16);
    for (let shift = 15; shift >= 0; shift -= 5) random += alphabet[(bits >> shift) & 31];
  }
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
