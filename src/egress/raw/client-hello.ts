import { isIP } from 'node:net';

/** Why a client's first bytes do not say a name that can be trusted to be the one it means. */
export type HelloFault = 'not_tls' | 'no_sni' | 'bad' | 'too_long' | 'ech';

export type HelloVerdict =
  | { readonly kind: 'more' }
  | { readonly kind: 'hello'; readonly serverName: string }
  | { readonly kind: 'fault'; readonly fault: HelloFault };

const helloMaxBytes = 16 * 1024;
/** With a record's header for every few bytes, as clients that split their hello send it. */
const rawMaxBytes = 32 * 1024;
const recordMaxBytes = 16_384;
const recordsMax = 1_024;

const handshakeRecord = 22;
const clientHello = 1;
const extensionNames = { serverName: 0, encryptedHello: 0xfe0d, encryptedName: 0xffce };

/**
 * Reads a TLS ClientHello (RFC 8446 4.1.2, RFC 6066 3) as it arrives, in records and segments of any size. Promises:
 *  - what is kept is bounded, and bytes that come one by one cost no more than all at once;
 *  - anything a server could read as something else is a fault: lengths that do not add up, an extension twice, a second
 *    name, another message behind it in the same record;
 *  - a hello whose real name may be hidden (ECH, its decoys too) is a fault.
 */
export class ClientHelloReader {
  #buffer = Buffer.alloc(2 * 1024);
  #length = 0;
  #at = 0;
  #records = 0;
  #message: Buffer = Buffer.alloc(0);
  #verdict: HelloVerdict = { kind: 'more' };

  /** Once it is not `more` it stays what it is; later bytes are only kept. */
  push(chunk: Buffer): HelloVerdict {
    this.#keep(chunk);
    while (this.#verdict.kind === 'more') {
      const fragment = this.#fragment();
      if (fragment === undefined) break;
      this.#message = Buffer.concat([this.#message, fragment]);
      this.#verdict = judge(this.#message);
    }
    if (this.#verdict.kind === 'more' && this.#length > rawMaxBytes) return this.#fault('too_long');
    return this.#verdict;
  }

  get verdict(): HelloVerdict {
    return this.#verdict;
  }

  /** Everything that has arrived, to be sent on. */
  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Where in `bytes` the record ends that completed the hello. */
  get endOfHello(): number {
    return this.#at;
  }

  #keep(chunk: Buffer): void {
    const length = this.#length + chunk.length;
    if (length > this.#buffer.length) {
      const larger = Buffer.alloc(Math.max(length, 2 * this.#buffer.length));
      this.#buffer.copy(larger, 0, 0, this.#length);
      this.#buffer = larger;
    }
    chunk.copy(this.#buffer, this.#length);
    this.#length = length;
  }

  /** The next whole record's content. */
  #fragment(): Buffer | undefined {
    const head = this.bytes.subarray(this.#at, this.#at + 5);
    const [type = handshakeRecord, major = 3, minor = 1] = head;
    if (type !== handshakeRecord || major !== 3 || minor < 1 || minor > 3) {
      this.#fault(this.#records === 0 ? 'not_tls' : 'bad');
      return undefined;
    }
    if (head.length < 5) return undefined;
    const length = head.readUInt16BE(3);
    if (length === 0 || length > recordMaxBytes) {
      this.#fault('bad');
      return undefined;
    }
    if (this.#length < this.#at + 5 + length) return undefined;
    if (++this.#records > recordsMax) {
      this.#fault('too_long');
      return undefined;
    }
    const fragment = this.#buffer.subarray(this.#at + 5, this.#at + 5 + length);
    this.#at += 5 + length;
    return fragment;
  }

  #fault(fault: HelloFault): HelloVerdict {
    this.#verdict = { kind: 'fault', fault };
    return this.#verdict;
  }
}

/** Why a hello is not one for `host`; `undefined` when it is. An address cannot be named in SNI: there none is right. */
export function misfit(verdict: HelloVerdict, host: string): string | undefined {
  if (verdict.kind === 'more') return 'its ClientHello is not whole';
  if (verdict.kind === 'fault')
    return verdict.fault === 'no_sni' && isIP(host) !== 0 ? undefined : faults[verdict.fault];
  return verdict.serverName === host ? undefined : `its ClientHello names ${verdict.serverName}`;
}

const faults: Readonly<Record<HelloFault, string>> = {
  not_tls: 'it does not begin with TLS',
  no_sni: 'its ClientHello names no host (no SNI)',
  bad: 'its ClientHello is malformed',
  too_long: 'its ClientHello is too long',
  ech: 'its ClientHello may hide another name (ECH)',
};

function judge(message: Buffer): HelloVerdict {
  const [type] = message;
  if (type !== undefined && type !== clientHello) return { kind: 'fault', fault: 'bad' };
  if (message.length < 4) return { kind: 'more' };
  const length = message.readUIntBE(1, 3);
  if (length > helloMaxBytes) return { kind: 'fault', fault: 'too_long' };
  if (message.length < 4 + length) return { kind: 'more' };
  if (message.length > 4 + length) return { kind: 'fault', fault: 'bad' };
  try {
    return read(new Cursor(message.subarray(4)));
  } catch {
    return { kind: 'fault', fault: 'bad' };
  }
}

function read(hello: Cursor): HelloVerdict {
  const version = hello.number(2);
  if (version < 0x0301 || version > 0x0303) return { kind: 'fault', fault: 'bad' };
  hello.take(32);
  if (hello.vector(1).left > 32) return { kind: 'fault', fault: 'bad' };
  const ciphers = hello.vector(2).left;
  if (ciphers < 2 || ciphers % 2 !== 0) return { kind: 'fault', fault: 'bad' };
  if (hello.vector(1).left < 1) return { kind: 'fault', fault: 'bad' };
  if (hello.left === 0) return { kind: 'fault', fault: 'no_sni' };
  const extensions = readExtensions(hello.vector(2));
  hello.end();
  if (extensions.has(extensionNames.encryptedHello) || extensions.has(extensionNames.encryptedName)) {
    return { kind: 'fault', fault: 'ech' };
  }
  const names = extensions.get(extensionNames.serverName);
  if (names === undefined) return { kind: 'fault', fault: 'no_sni' };
  return { kind: 'hello', serverName: readName(names) };
}

function readExtensions(list: Cursor): Map<number, Cursor> {
  const found = new Map<number, Cursor>();
  while (list.left > 0) {
    const type = list.number(2);
    if (found.has(type)) throw new Error('an extension twice');
    found.set(type, list.vector(2));
  }
  return found;
}

/** Exactly one name, of the only type there is, that is a name and not an address. */
function readName(extension: Cursor): string {
  const list = extension.vector(2);
  extension.end();
  if (list.number(1) !== 0) throw new Error('not a host name');
  const bytes = list.vector(2);
  list.end();
  const name = bytes.take(bytes.left).toString('latin1').toLowerCase();
  if (!/^(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}$/.test(name) || name.length > 253 || isIP(name) !== 0) {
    throw new Error('not a host name');
  }
  return name;
}

/** Reads forward; throws where something is missing or left over. */
class Cursor {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  take(length: number): Buffer {
    if (length > this.left) throw new Error('too short');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  number(bytes: 1 | 2): number {
    return this.take(bytes).readUIntBE(0, bytes);
  }

  /** A length of so many bytes, and what it counts. */
  vector(bytes: 1 | 2): Cursor {
    return new Cursor(this.take(this.number(bytes)));
  }

  end(): void {
    if (this.left > 0) throw new Error('too long');
  }
}
