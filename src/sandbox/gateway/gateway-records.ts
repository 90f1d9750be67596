import { broken } from '../frames.ts';
import { payloadMax } from '../wire.ts';

/** Bytes per connection that either side may have under way beyond what the other has granted. */
export const creditBytes = 262_144;
export const connectionsMax = 256;
export const listenersMax = 64;
export const datagramMax = 4_096;
/** Bytes of one record of data. */
export const dataMax = payloadMax - 4;
/** `u8 kind, u32 length`, and what a 'D' has before its bytes. */
const recordHeadBytes = 5;
export const dataHeadBytes = recordHeadBytes + 4;

/** An IPv4 address and port inside a sandbox. */
export interface Peer {
  readonly address: string;
  readonly port: number;
}

/** Who is told of each record, in order. What it throws breaks the parser. */
export interface GatewayReceiver {
  listening(listener: number, errno: number): void;
  connected(connection: number, errno: number): void;
  accepted(connection: number, listener: number, peer: Peer): void;
  /** A piece of what the connection's other side sent, as it comes; the bytes are never overwritten. */
  data(connection: number, bytes: Buffer): void;
  ended(connection: number): void;
  reset(connection: number): void;
  granted(connection: number, bytes: number): void;
  forgotten(connection: number): void;
  datagram(listener: number, peer: Peer, bytes: Buffer): void;
}

/**
 * Reads what a gateway says: docs/protocol.md, "The gateway". Promises:
 *  - a kind is judged with its first byte and a length with its fifth, before anything of the payload is waited for;
 *  - held back is at most one short record (4 KiB); data passes through, in pieces, uncopied;
 *  - how the stream is cut into chunks changes nothing but the pieces of data; the first thing that is wrong throws `protocol_error`.
 */
export class GatewayParser {
  readonly #receiver: GatewayReceiver;
  #rest: Buffer = empty;
  #connection = 0;
  #leftBytes = 0;
  #stopped = false;
  #held = false;

  constructor(receiver: GatewayReceiver) {
    this.#receiver = receiver;
  }

  /** Reads on at `from`, and says how far it came: to the end, unless it was to hold. */
  push(chunk: Buffer, from = 0): number {
    this.#held = false;
    let at = from;
    while (at < chunk.length && !this.#stopped && !this.#held) {
      if (this.#leftBytes > 0) at = this.#pass(chunk, at);
      else if (this.#rest.length > 0) at = this.#complete(chunk, at);
      else at = this.#begin(chunk, at);
    }
    return this.#stopped ? chunk.length : at;
  }

  /** No record after the one that is being told, until the next `push`. */
  hold(): void {
    this.#held = true;
  }

  /** Nothing more is told, not even of what has arrived. */
  stop(): void {
    this.#stopped = true;
  }

  /** In the middle of a 'D'. */
  #pass(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#leftBytes);
    this.#leftBytes -= end - at;
    this.#receiver.data(this.#connection, chunk.subarray(at, end));
    return end;
  }

  #begin(chunk: Buffer, at: number): number {
    const need = needed(chunk, at);
    if (chunk.length - at >= need) {
      this.#take(chunk, at);
      return at + need;
    }
    this.#rest = Buffer.from(chunk.subarray(at));
    return chunk.length;
  }

  /** A step further in a record that began in another chunk: its header first, then what the header announces. */
  #complete(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + needed(this.#rest, 0) - this.#rest.length);
    const record = Buffer.concat([this.#rest, chunk.subarray(at, end)]);
    const whole = record.length >= needed(record, 0);
    this.#rest = whole ? empty : record;
    if (whole) this.#take(record, 0);
    return end;
  }

  #take(bytes: Buffer, at: number): void {
    const length = bytes.readUInt32LE(at + 1);
    const number = bytes.readUInt32LE(at + recordHeadBytes);
    const payload = at + recordHeadBytes;
    const end = payload + length;
    switch (bytes[at]) {
      case kind.data:
        this.#connection = number;
        this.#leftBytes = length - 4;
        return;
      case kind.ended:
        return this.#receiver.ended(number);
      case kind.reset:
        return this.#receiver.reset(number);
      case kind.grant:
        return this.#receiver.granted(number, bytes.readUInt32LE(payload + 4));
      case kind.forgotten:
        return this.#receiver.forgotten(number);
      case kind.accepted:
        return this.#receiver.accepted(number, bytes.readUInt32LE(payload + 4), peerAt(bytes, payload + 8));
      case kind.listen:
        return this.#receiver.listening(number, errnoAt(bytes, payload + 4));
      case kind.connect:
        return this.#receiver.connected(number, errnoAt(bytes, payload + 4));
      default:
        return this.#receiver.datagram(
          number,
          peerAt(bytes, payload + 4),
          Buffer.from(bytes.subarray(payload + 10, end)),
        );
    }
  }
}

const empty = Buffer.alloc(0);

const kind = {
  listen: code('L'),
  unlisten: code('l'),
  connect: code('C'),
  accepted: code('A'),
  data: code('D'),
  ended: code('F'),
  reset: code('R'),
  grant: code('W'),
  forgotten: code('G'),
  datagram: code('U'),
} as const;

/** Least and most payload of what may arrive. */
const arrivals: ReadonlyMap<number, readonly [number, number]> = new Map([
  [kind.listen, [8, 8]],
  [kind.connect, [8, 8]],
  [kind.accepted, [14, 14]],
  [kind.data, [5, payloadMax]],
  [kind.ended, [4, 4]],
  [kind.reset, [4, 4]],
  [kind.grant, [8, 8]],
  [kind.forgotten, [4, 4]],
  [kind.datagram, [10, 10 + datagramMax]],
]);

const errnoMax = 4_095;

/** How much of the record at `at` is needed to go on, as far as it is known; everything that is known of it is allowed. */
function needed(bytes: Buffer, at: number): number {
  const first = bytes.readUInt8(at);
  const bounds = arrivals.get(first);
  if (bounds === undefined) throw broken(`a gateway's record of kind ${first}`);
  if (bytes.length - at < recordHeadBytes) return recordHeadBytes;
  const length = bytes.readUInt32LE(at + 1);
  if (length < bounds[0] || length > bounds[1])
    throw broken(`a gateway's record ${String.fromCharCode(first)} of ${length} bytes`);
  return first === kind.data ? dataHeadBytes : recordHeadBytes + length;
}

function errnoAt(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32LE(at);
  if (value > errnoMax) throw broken(`a gateway's errno ${value}`);
  return value;
}

function peerAt(bytes: Buffer, at: number): Peer {
  return { address: [...bytes.subarray(at, at + 4)].join('.'), port: bytes.readUInt16LE(at + 4) };
}

export function listenRecord(listener: number, protocol: 'tcp' | 'udp', at: Peer): Buffer {
  const record = headed(kind.listen, 11, listener);
  record[9] = protocol === 'tcp' ? 1 : 2;
  writePeer(record, 10, at);
  return record;
}

export function unlistenRecord(listener: number): Buffer {
  return headed(kind.unlisten, 4, listener);
}

export function connectRecord(connection: number, to: Peer): Buffer {
  const record = headed(kind.connect, 10, connection);
  writePeer(record, 9, to);
  return record;
}

/** What comes before `bytesAfter` bytes of data. */
export function dataHead(connection: number, bytesAfter: number): Buffer {
  return headed(kind.data, 4 + bytesAfter, connection, dataHeadBytes);
}

export function endRecord(connection: number): Buffer {
  return headed(kind.ended, 4, connection);
}

export function resetRecord(connection: number): Buffer {
  return headed(kind.reset, 4, connection);
}

export function grantRecord(connection: number, bytes: number): Buffer {
  const record = headed(kind.grant, 8, connection);
  record.writeUInt32LE(bytes, 9);
  return record;
}

export function datagramRecord(listener: number, to: Peer, bytes: Uint8Array): Buffer {
  const record = headed(kind.datagram, 10 + bytes.length, listener);
  writePeer(record, 9, to);
  record.set(bytes, 15);
  return record;
}

function headed(first: number, length: number, number: number, size = recordHeadBytes + length): Buffer {
  const record = Buffer.allocUnsafe(size);
  record[0] = first;
  record.writeUInt32LE(length, 1);
  record.writeUInt32LE(number, recordHeadBytes);
  return record;
}

function writePeer(record: Buffer, at: number, { address, port }: Peer): void {
  record.set(address.split('.').map(Number), at);
  record.writeUInt16LE(port, at + 4);
}

function code(character: string): number {
  return character.charCodeAt(0);
}
