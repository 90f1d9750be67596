import { createHash, createPublicKey, randomBytes, sign, type KeyObject } from 'node:crypto';

export interface CertificateTerms {
  /** Shown to people; at most 64 characters of ASCII. */
  readonly subject: string;
  readonly issuer: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** Whose certificate it is, and who signs: on the curve P-256. */
  readonly publicKey: KeyObject;
  readonly signingKey: KeyObject;
  /** The DNS name that it is for; without one it is an authority, for leaves alone. */
  readonly host: string | undefined;
}

/** An X.509 certificate (RFC 5280) in PEM, with the extensions that strict clients ask for. */
export function issueCertificate(terms: CertificateTerms): string {
  const body = sequence(
    tagged(0xa0, integer(Buffer.from([2]))),
    // 4.1.2.2: positive, not guessable, at most 20 bytes.
    integer(Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    ecdsaWithSha256,
    named(terms.issuer),
    sequence(time(terms.notBefore), time(terms.notAfter)),
    named(terms.subject),
    spkiOf(terms.publicKey),
    tagged(0xa3, sequence(...extensionsOf(terms))),
  );
  const signature = sign('sha256', body, terms.signingKey);
  return pemOf('CERTIFICATE', sequence(body, ecdsaWithSha256, bits(signature)));
}

function pemOf(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

function extensionsOf({ host, publicKey, signingKey }: CertificateTerms): readonly Buffer[] {
  const own = extension(oids.subjectKeyIdentifier, octets(keyIdentifier(publicKey)));
  const signers = keyIdentifier(createPublicKey(signingKey));
  const issuers = extension(oids.authorityKeyIdentifier, sequence(tagged(0x80, signers)));
  if (host === undefined) {
    // An authority, under which there is none; it signs certificates (bit 5).
    const authority = sequence(boolean(true), integer(Buffer.from([0])));
    return [
      extension(oids.basicConstraints, authority, true),
      extension(oids.keyUsage, bits(Buffer.from([0x04]), 2), true),
      own,
      issuers,
    ];
  }
  return [
    extension(oids.basicConstraints, sequence(), true),
    extension(oids.keyUsage, bits(Buffer.from([0x80]), 7), true),
    extension(oids.extendedKeyUsage, sequence(oids.serverAuth)),
    extension(oids.subjectAltName, sequence(tagged(0x82, Buffer.from(host, 'ascii')))),
    own,
    issuers,
  ];
}

function extension(oid: Buffer, value: Buffer, critical = false): Buffer {
  return sequence(oid, ...(critical ? [boolean(true)] : []), octets(value));
}

/** RFC 7093, 2 (1). */
function keyIdentifier(key: KeyObject): Buffer {
  return createHash('sha256').update(spkiOf(key).subarray(-65)).digest().subarray(0, 20);
}

function spkiOf(key: KeyObject): Buffer {
  return key.export({ type: 'spki', format: 'der' });
}

/** A name of one attribute: the common name. */
function named(text: string): Buffer {
  return sequence(tagged(0x31, sequence(oids.commonName, tagged(0x0c, Buffer.from(text, 'ascii')))));
}

/** 4.1.2.5: two digits of the year until 2049. */
function time(date: Date): Buffer {
  const digits = date.toISOString().replace(/\.\d+|[-:T]/g, '');
  return date.getUTCFullYear() < 2050
    ? tagged(0x17, Buffer.from(digits.slice(2), 'ascii'))
    : tagged(0x18, Buffer.from(digits, 'ascii'));
}

function sequence(...items: readonly Buffer[]): Buffer {
  return tagged(0x30, ...items);
}

function integer(bytes: Buffer): Buffer {
  return tagged(0x02, bytes);
}

function boolean(value: boolean): Buffer {
  return tagged(0x01, Buffer.from([value ? 0xff : 0]));
}

function octets(bytes: Buffer): Buffer {
  return tagged(0x04, bytes);
}

function bits(bytes: Buffer, unused = 0): Buffer {
  return tagged(0x03, Buffer.from([unused]), bytes);
}

/** X.690, 10.1: a tag, the length in its shortest form, the content. */
function tagged(tag: number, ...content: readonly Buffer[]): Buffer {
  const length = content.reduce((sum, { length }) => sum + length, 0);
  const head =
    length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), ...content]);
}

function oid(hex: string): Buffer {
  return tagged(0x06, Buffer.from(hex, 'hex'));
}

const oids = {
  commonName: oid('550403'),
  subjectKeyIdentifier: oid('551d0e'),
  keyUsage: oid('551d0f'),
  subjectAltName: oid('551d11'),
  basicConstraints: oid('551d13'),
  authorityKeyIdentifier: oid('551d23'),
  extendedKeyUsage: oid('551d25'),
  serverAuth: oid('2b06010505070301'),
};
/** 1.2.840.10045.4.3.2 */
const ecdsaWithSha256 = sequence(oid('2a8648ce3d040302'));
