import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Mask, MaskStream, maskText } from './mask.ts';
import { Secret } from './secret.ts';
import { spellingsOf } from './spellings.ts';

const token = 'ghp_A1b2C3d4E5f6G7h8I9j0';
const awkward = `p@ss/w"or d+&'<x>=\\%`;

const secretText = fc.oneof(
  fc.constantFrom(token, awkward, 'aaaaaaaa', 'abababab'),
  fc.string({
    unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)),
    minLength: 8,
    maxLength: 40,
  }),
);
/** Bytes that meet the beginnings of a secret often. */
const filler = (text: string) =>
  fc.oneof(
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
    fc.nat(text.length).map((length) => Buffer.from(text.slice(0, length))),
    fc.nat(text.length).map((length) => Buffer.from(text.slice(length))),
    fc.constantFrom('a', 'ab', '%', 'YW', '"').map((letters) => Buffer.from(letters)),
  );

/** A body with spellings among other things, and where it is cut. */
const body = secretText.chain((text) => {
  const spellings = spellingsOf(Secret.parse(text));
  return fc.record({
    spellings: fc.constant(spellings),
    parts: fc.array(fc.oneof(filler(text), fc.constantFrom(...spellings)), { maxLength: 12 }),
    cuts: fc.array(fc.nat(600), { maxLength: 20 }),
  });
});

function pieces(bytes: Buffer, cuts: readonly number[]): readonly Buffer[] {
  const places = [0, ...cuts.filter((cut) => cut < bytes.length).sort((a, b) => a - b), bytes.length];
  return places.slice(1).map((to, at) => bytes.subarray(places[at], to));
}

/** What has to come out, found the plain way: every byte of every occurrence. */
function expected(bytes: Buffer, spellings: readonly Buffer[]): Buffer {
  const copy = Buffer.from(bytes);
  for (const spelling of spellings)
    for (let at = bytes.indexOf(spelling); at >= 0; at = bytes.indexOf(spelling, at + 1))
      copy.fill('*', at, at + spelling.length);
  return copy;
}

describe('a mask', () => {
  test('takes out every spelling and changes nothing else, however the bytes are cut', () => {
    fc.assert(
      fc.property(body, ({ spellings, parts, cuts }) => {
        const bytes = Buffer.concat(parts);
        const mask = new Mask(spellings);
        const out = Buffer.concat([...pieces(bytes, cuts).map((piece) => mask.push(piece)), mask.end()]);
        expect(out.toString('latin1')).toBe(expected(bytes, spellings).toString('latin1'));
        // The stars that take the place of one can be the end of another.
        for (const spelling of spellings) if (!spelling.includes('*')) expect(out.includes(spelling)).toBe(false);
      }),
      { numRuns: 500 },
    );
  });

  test('never lets out a byte before it is known that it begins no spelling, and holds no more back', () => {
    const mask = new Mask([Buffer.from(token)]);
    expect(mask.push(Buffer.from(`data: ${token.slice(0, 10)}`)).toString()).toBe('data: ');
    expect(mask.push(Buffer.from('!\n')).toString()).toBe(`${token.slice(0, 10)}!\n`);
    expect(mask.push(Buffer.from('a whole event\n\n')).toString()).toBe('a whole event\n\n');
  });

  test('hides what is left of a spelling that overlaps with the beginning of another', () => {
    const mask = new Mask([Buffer.from('abababab')]);
    const out = [
      mask.push(Buffer.from('abababab')),
      mask.push(Buffer.from('ab')),
      mask.push(Buffer.from('x')),
      mask.end(),
    ];
    expect(Buffer.concat(out).toString()).toBe('**********x');
  });

  test('finds a spelling that lies within the beginning of a longer one, at the very end too', () => {
    const mask = new Mask([Buffer.from('user:hunter2hunter2:rest'), Buffer.from('hunter2hunter2')]);
    expect(Buffer.concat([mask.push(Buffer.from('user:hunter2hunter2')), mask.end()]).toString()).toBe(
      'user:**************',
    );
  });

  test('passes on the very bytes where nothing is found', () => {
    const piece = Buffer.from('nothing of interest 1234567890;');
    expect(new Mask([Buffer.from(token)]).push(piece).buffer).toBe(piece.buffer);
  });

  test('works as a stream, to its last byte', async () => {
    const source = Readable.from([
      Buffer.from(`x${token.slice(0, 5)}`),
      Buffer.from(`${token.slice(5)}y${token.slice(0, 7)}`),
    ]);
    const out = await buffer(source.pipe(new MaskStream([Buffer.from(token)])));
    expect(out.toString()).toBe(`x${'*'.repeat(token.length)}y${token.slice(0, 7)}`);
  });
});

describe('the spellings of a secret', () => {
  const encoders: readonly (readonly [string, (text: string) => string])[] = [
    ['itself', (text) => text],
    ['Basic with any user', (text) => Buffer.from(`me:${text}`).toString('base64')],
    ['Basic with it as the user', (text) => Buffer.from(`${text}:`).toString('base64')],
    ['Basic of an odd length', (text) => Buffer.from(`agent:${text}`).toString('base64')],
    ['base64 for URLs', (text) => Buffer.from(`x${text}y`).toString('base64url')],
    ['a part of a URL', (text) => encodeURIComponent(text)],
    [
      'a part of a URL with small digits',
      (text) => encodeURIComponent(text).replaceAll(/%../g, (e) => e.toLowerCase()),
    ],
    ['a form', (text) => new URLSearchParams({ v: text }).toString()],
    ['JSON', (text) => JSON.stringify({ text })],
    ['JSON with escaped slashes', (text) => JSON.stringify({ text }).replaceAll('/', '\\/')],
    ['hexadecimal digits', (text) => Buffer.from(text).toString('hex')],
  ];

  test.each(encoders)('are found as %s', (_, encode) => {
    for (const text of [token, awkward]) {
      const shown = maskText(encode(text), spellingsOf(Secret.parse(text)));
      expect(shown).toMatch(/\*{8,}/);
      expect(shown).not.toContain(text.slice(2, -2));
      expect(decodings(shown).join(' ')).not.toContain(text.slice(2, -2));
    }
  });

  test('of a pair in base64 are the password too', () => {
    const pair = Buffer.from('agent:correct horse battery').toString('base64');
    expect(maskText('{"password":"correct horse battery"}', spellingsOf(Secret.parse(pair)))).not.toContain('horse');
  });

  function decodings(text: string): readonly string[] {
    return ['base64', 'hex'].map((encoding) => Buffer.from(text, encoding as BufferEncoding).toString('latin1'));
  }
});
