import { createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { canonicalJson } from '../digest.ts';
import { openEnvelope, preAuthEncoding, sealEnvelope } from './envelope.ts';
import { keyIdOf } from './signing-key.ts';

const { privateKey } = generateKeyPairSync('ed25519');
const other = generateKeyPairSync('ed25519');
const key = createPublicKey(privateKey);
const sealed = sealEnvelope('{"a":1}', privateKey);

interface Envelope {
  payload: string;
  payloadType: string;
  signatures: { keyid: string; sig: string }[];
}

function edited(edit: (envelope: Envelope) => void): string {
  const envelope = JSON.parse(sealed) as Envelope;
  edit(envelope);
  return canonicalJson(envelope);
}

describe('an envelope', () => {
  test('signs the encoding that the DSSE protocol gives as its example', () => {
    const encoded = preAuthEncoding('http://example.com/HelloWorld', Buffer.from('hello world'));
    expect(encoded.toString()).toBe('DSSEv1 29 http://example.com/HelloWorld 11 hello world');
    expect(preAuthEncoding('ä', Buffer.from('ö')).toString()).toBe('DSSEv1 2 ä 2 ö');
  });

  test('says who has signed what', () => {
    expect(openEnvelope(sealed, [other.publicKey, key])).toEqual({
      kind: 'signed',
      payload: '{"a":1}',
      by: keyIdOf(key),
    });
    expect(sealEnvelope('{"a":1}', privateKey), 'the same text and key, the same envelope').toBe(sealed);
  });

  test.each([
    ['nobody has signed', 'signatures', (e: Envelope) => void (e.signatures = [])],
    ['two have signed', 'signatures', (e: Envelope) => void e.signatures.push(...e.signatures)],
    ['another text stands in', 'signatures.0.sig', (e: Envelope) => void (e.payload = 'eyJhIjoyfQ==')],
    ['has another type', 'payloadType', (e: Envelope) => void (e.payloadType = 'application/json')],
    [
      'names another key',
      'signatures.0.keyid',
      (e: Envelope) => e.signatures.forEach((one) => (one.keyid = '0'.repeat(64))),
    ],
    [
      'has half a signature',
      'signatures.0.sig',
      (e: Envelope) => e.signatures.forEach((one) => (one.sig = one.sig.slice(0, 44))),
    ],
    ['spells its base64 in another way', 'payload', (e: Envelope) => void (e.payload = e.payload.replace(/=+$/, ''))],
  ])('that %s is refused', (_, field, edit) => {
    expect(openEnvelope(edited(edit), [key])).toMatchObject({ kind: 'bad', field });
  });

  test('whose signature is over another type than it states is refused', () => {
    const body = Buffer.from('{"a":1}');
    const sig = sign(null, preAuthEncoding('application/other', body), privateKey).toString('base64');
    expect(
      openEnvelope(
        edited((e) => e.signatures.forEach((one) => (one.sig = sig))),
        [key],
      ),
    ).toMatchObject({
      kind: 'bad',
      field: 'signatures.0.sig',
    });
  });

  test.each(['', 'null', '[]', '{}', ` ${sealed}`, sealed.replace('{', '{"payload":"",')])('is not %j', (text) => {
    expect(openEnvelope(text, [key])).toMatchObject({ kind: 'bad' });
  });
});
