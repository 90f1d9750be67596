import { EventEmitter, once } from 'node:events';
import type { Duplex } from 'node:stream';
import { u64Bytes } from '../call-wire.ts';
import { encodeFrame } from '../frames.ts';
import { Gateway, type GatewayEvents, type InnerConnection, type Peer } from './gateway.ts';
import { Link } from '../link.ts';
import { fromSupervisor, toSupervisor } from '../wire.ts';

/** One record that the runner has sent; `number` is the connection's or the listener's. */
export interface SentRecord {
  readonly kind: string;
  readonly number: number;
  /** After the number. */
  readonly rest: Buffer;
}

const call = 7;

/**
 * The other end of a gateway, by hand: what the runner writes is parsed into `sent`, what is given to `say` arrives. Input is
 * acknowledged as it comes, unless `reads` is false.
 */
export class GatewayPeer extends EventEmitter {
  readonly sent: SentRecord[] = [];
  readonly frames: number[] = [];
  /** What the call was started with. */
  spec = Buffer.alloc(0);
  writableNeedDrain = false;
  reads = true;
  inputBytes = 0;
  inputEnded = false;
  ackedBytes = 0;
  destroyed = false;
  #epoch = 0;
  #nonce = Buffer.alloc(16);
  #rest = Buffer.alloc(0);
  #outputBytes = 0;

  static async link(): Promise<{ peer: GatewayPeer; link: Link }> {
    const peer = new GatewayPeer();
    const stream = { duplex: peer as unknown as Duplex, stderrTail: () => '' };
    const opening = Link.open(stream, { orphanMs: 1000, timeoutMs: 1000, pingEveryMs: 60_000 });
    const facts = Buffer.from(new Uint32Array([1, 0, 0, 0, 0]).buffer);
    peer.#frame(fromSupervisor.welcome, 0, Buffer.concat([peer.#nonce, facts]));
    return { peer, link: (await opening).link };
  }

  /** A gateway that has been started. */
  static async open(events: Partial<GatewayEvents> = {}): Promise<{ peer: GatewayPeer; link: Link; gateway: Gateway }> {
    const { peer, link } = await GatewayPeer.link();
    const opening = Gateway.open(link, call, {
      connection: events.connection ?? (() => undefined),
      datagram: events.datagram ?? (() => undefined),
      lost: events.lost ?? (() => undefined),
    });
    peer.started();
    return { peer, link, gateway: await opening };
  }

  started(): void {
    this.#frame(fromSupervisor.started, call, Buffer.from([9, 0, 0, 0]));
  }

  /** Ends the gateway's call, as the supervisor tells it. */
  exited(code = 0): void {
    const exit = Buffer.alloc(64);
    exit.writeInt32LE(code, 4);
    exit.writeUInt32LE(this.#outputBytes, 56);
    this.#frame(fromSupervisor.exit, call, exit);
    this.#frame(fromSupervisor.end, call, u64Bytes(this.#outputBytes));
  }

  refused(): void {
    this.#frame(fromSupervisor.refused, call, Buffer.from([2, 0, 0, 0]));
  }

  /** A listener that is granted. */
  async listening(gateway: Gateway, kind: 'tcp' | 'udp' = 'tcp', port = 80): Promise<number> {
    const listening = gateway.listen(kind, '127.0.0.1', port);
    this.say(record('L', this.last('L').number, u32(0)));
    return await listening;
  }

  /** Bytes of the gateway's output, cut into frames of at most `most`. */
  say(bytes: Buffer, most = 65_000, stream = 1): void {
    for (let at = 0; at < bytes.length; at += most) {
      const piece = bytes.subarray(at, at + most);
      this.#frame(fromSupervisor.out, call, Buffer.concat([u64Bytes(this.#outputBytes), Buffer.from([stream]), piece]));
      this.#outputBytes += piece.length;
    }
  }

  /** The supervisor's word that everything written so far was read. */
  readAll(): void {
    this.#frame(fromSupervisor.stdinAck, call, u64Bytes(this.inputBytes));
  }

  last(kind: string): SentRecord {
    const found = this.sent.findLast((each) => each.kind === kind);
    if (found === undefined) throw new Error(`no ${kind} among ${this.kinds()}`);
    return found;
  }

  kinds(): string {
    return this.sent.map(({ kind }) => kind).join('');
  }

  /** All data that was sent to a connection. */
  dataOf(connection: number): Buffer {
    return Buffer.concat(
      this.sent.filter(({ kind, number }) => kind === 'D' && number === connection).map(({ rest }) => rest),
    );
  }

  write(bytes: Buffer): boolean {
    for (let at = 0; at < bytes.length;) {
      const length = bytes.readUInt32LE(at + 8);
      this.#take(bytes.readUInt8(at + 2), bytes.readUInt8(at + 3), bytes.subarray(at + 12, at + 12 + length));
      at += 16 + length;
    }
    return true;
  }

  destroy(): void {
    this.destroyed = true;
  }

  #take(type: number, flags: number, payload: Buffer): void {
    this.frames.push(type);
    if (type === toSupervisor.hello) {
      this.#nonce = Buffer.from(payload.subarray(0, 16));
      this.#epoch = this.#nonce.readUInt32LE(0);
    } else if (type === toSupervisor.spawn) this.spec = Buffer.concat([this.spec, payload]);
    else if (type === toSupervisor.ack) this.ackedBytes = payload.readUInt32LE(0);
    else if (type === toSupervisor.stdin) this.#takeInput(payload, flags === 1);
  }

  #takeInput(payload: Buffer, end: boolean): void {
    if (payload.readUInt32LE(0) !== this.inputBytes) throw new Error('input with a gap');
    this.inputBytes += payload.length - 8;
    this.inputEnded ||= end;
    this.#rest = Buffer.concat([this.#rest, payload.subarray(8)]);
    while (this.#rest.length >= 5 && this.#rest.length >= 5 + this.#rest.readUInt32LE(1)) {
      const length = 5 + this.#rest.readUInt32LE(1);
      const kind = String.fromCharCode(this.#rest.readUInt8(0));
      this.sent.push({ kind, number: this.#rest.readUInt32LE(5), rest: this.#rest.subarray(9, length) });
      this.#rest = this.#rest.subarray(length);
    }
    if (this.reads) this.readAll();
  }

  #frame(type: number, of: number, payload: Buffer): void {
    this.emit('data', encodeFrame(this.#epoch, type, of, payload));
  }
}

export function record(kind: string, number: number, ...rest: readonly Uint8Array[]): Buffer {
  const payload = Buffer.concat([u32(number), ...rest]);
  return Buffer.concat([Buffer.from(kind), u32(payload.length), payload]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** As it stands in 'A' and 'U'. */
export function peerBytes({ address, port }: Peer): Buffer {
  return Buffer.from([...address.split('.').map(Number), port & 0xff, port >> 8]);
}

export const somebody: Peer = { address: '127.0.0.1', port: 40_000 };

export function accept(connection: number, listener: number, peer = somebody): Buffer {
  return record('A', connection, u32(listener), peerBytes(peer));
}

/** Everything that comes until the end. */
export async function readWhole(inner: InnerConnection): Promise<Buffer> {
  const parts: Buffer[] = [];
  inner.on('data', (part: Buffer) => parts.push(part));
  await once(inner, 'end');
  return Buffer.concat(parts);
}

export interface Connected {
  readonly peer: GatewayPeer;
  readonly gateway: Gateway;
  readonly inner: InnerConnection;
  readonly listener: number;
}

/** A gateway with one connection, number 1, that a program inside has made. */
export async function connected(events: Partial<GatewayEvents> = {}): Promise<Connected> {
  const come: InnerConnection[] = [];
  const { peer, gateway } = await GatewayPeer.open({ connection: (inner) => come.push(inner), ...events });
  const listener = await peer.listening(gateway);
  peer.say(accept(1, listener));
  const [inner] = come;
  if (inner === undefined) throw new Error('nobody was told of the connection');
  return { peer, gateway, inner, listener };
}
