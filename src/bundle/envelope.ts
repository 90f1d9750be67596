import { sign, verify, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import { canonicalJson } from '../digest.ts';
import { keyIdOf } from './signing-key.ts';

/**
 * A text and who vouches for it: DSSE 1.0.0 with Ed25519. Promises:
 *  - what is signed is the pre-authentication encoding, so neither the text nor its type can be taken for another;
 *  - an envelope has one signature and one text: canonical JSON, canonical base64, the id of the key that it was made with. A
 *    flipped bit anywhere is a problem, also where it would decode to the same bytes.
 */
const payloadType = 'application/vnd.in-toto+json';

/** The text of an envelope. The same text and key give the same one: Ed25519 is deterministic. */
export function sealEnvelope(payload: string, key: KeyObject): string {
  const body = Buffer.from(payload);
  const sig = sign(null, preAuthEncoding(payloadType, body), key).toString('base64');
  return canonicalJson({
    payload: body.toString('base64'),
    payloadType,
    signatures: [{ keyid: keyIdOf(key), sig }],
  } satisfies Envelope);
}

export type OpenedEnvelope =
  | { readonly kind: 'signed'; readonly payload: string; readonly by: string }
  | { readonly kind: 'bad'; readonly field: string; readonly message: string };

/** Holds an envelope against the keys that are believed; `by` is the id of the one that has signed it. */
export function openEnvelope(text: string, keys: readonly KeyObject[]): OpenedEnvelope {
  const read = readEnvelope(text);
  if ('kind' in read) return read;
  const [signature, ...more] = read.signatures;
  if (signature === undefined) return bad('signatures', 'nobody has signed it');
  if (more.length > 0) return bad('signatures', `${more.length + 1} signatures, and a bundle has one`);
  const { keyid, sig } = signature;
  const body = Buffer.from(read.payload, 'base64');
  const signed = preAuthEncoding(read.payloadType, body);
  const by = keys.find((key) => verify(null, signed, key, Buffer.from(sig, 'base64')));
  if (by === undefined) {
    const known = keys.some((key) => keyIdOf(key) === keyid);
    return known
      ? bad('signatures.0.sig', 'the key has not signed this: payload or signature were changed')
      : bad('signatures.0.keyid', `signed by key ${keyid}, which is none of those that are believed here`);
  }
  if (keyid !== keyIdOf(by)) return bad('signatures.0.keyid', `it names ${keyid}, and ${keyIdOf(by)} has signed it`);
  return { kind: 'signed', payload: body.toString('utf8'), by: keyid };
}

/** PAE of the DSSE protocol, version 1. */
export function preAuthEncoding(type: string, body: Uint8Array): Buffer {
  const head = `DSSEv1 ${Buffer.byteLength(type)} ${type} ${body.length} `;
  return Buffer.concat([Buffer.from(head), body]);
}

const base64 = z
  .string()
  .refine((text) => Buffer.from(text, 'base64').toString('base64') === text, 'no canonical base64');

const Envelope = z.strictObject({
  payload: base64,
  payloadType: z.literal(payloadType),
  signatures: z.array(z.strictObject({ keyid: z.string().regex(/^[0-9a-f]{64}$/), sig: base64 })).max(16),
});
type Envelope = z.infer<typeof Envelope>;

function readEnvelope(text: string): Envelope | Extract<OpenedEnvelope, { kind: 'bad' }> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return bad('', 'it is not JSON');
  }
  const parsed = Envelope.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    return bad(issue?.path.join('.') ?? '', issue?.message ?? 'it is no envelope');
  }
  if (canonicalJson(parsed.data) !== text) return bad('', 'it is not written in the one form that it has');
  return parsed.data;
}

function bad(field: string, message: string): Extract<OpenedEnvelope, { kind: 'bad' }> {
  return { kind: 'bad', field, message };
}
