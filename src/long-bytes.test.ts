import { expect, test } from 'vitest';
import { digestOf } from './digest.ts';
import { digestOfLong, fromBase64, fromText, joinBytes, toBase64, toText } from './long-bytes.ts';

const row = 3 * 262_144;
const lengths = [0, 1, 2, row - 1, row, row + 1, 3 * row + 2];

test.each(lengths)('%i bytes are worked on in parts, and come to what they do at once', async (length) => {
  const bytes = Buffer.from(Array.from({ length }, (_, n) => (n * 7) % 251));
  const base64 = await toBase64(bytes);
  expect(base64 === bytes.toString('base64')).toBe(true);
  expect((await fromBase64(base64)).equals(bytes)).toBe(true);
  expect(await digestOfLong(bytes)).toBe(digestOf(bytes));
  expect(
    (await joinBytes([bytes, Buffer.from('é'), bytes])).equals(Buffer.concat([bytes, Buffer.from('é'), bytes])),
  ).toBe(true);
});

test.each(['x', 'é', '€', '😀', 'a😀'])('text of many %s is cut between characters', async (character) => {
  for (const before of ['', 'a', 'ab', 'abc']) {
    const text = before + character.repeat(row / 2);
    const bytes = Buffer.from(text);
    expect((await toText(bytes)) === text).toBe(true);
    expect((await fromText(text)).equals(bytes)).toBe(true);
  }
});
