import { broken } from '../frames.ts';
import {
  creditBytes,
  dataHead,
  dataHeadBytes,
  endRecord,
  grantRecord,
  resetRecord,
  type Peer,
} from './gateway-records.ts';
import { InnerConnection, type InnerPort } from './inner-connection.ts';
import { SocketError, errno } from './socket-error.ts';

/** What a channel needs of its gateway. */
export interface ChannelHost {
  /** A short record, as soon as there is room. */
  say(record: Buffer): void;
  /** The channel has data to send: `send` is called when it is its turn. */
  queue(channel: Channel): void;
  /** Pieces of one record with data. */
  write(pieces: readonly Uint8Array[], lengthBytes: number): void;
}

const grantAtBytes = creditBytes / 4;
/** A connection that nobody here holds any more ends by itself, or is reset after this long. */
const lingerMs = 30_000;

/**
 * One connection as the gateway's records have it, from the first to the 'G'. It outlives the `InnerConnection`, which its owner
 * may drop at any time. Promises: never more under way than was granted, in both directions; what arrives in no order that TCP
 * knows throws `protocol_error`; what was under way when this side gave up is dropped.
 */
export class Channel implements InnerPort {
  readonly number: number;
  readonly connection: InnerConnection;
  readonly #host: ChannelHost;
  #ours: 'open' | 'ended' | 'reset' = 'open';
  #theirs: 'open' | 'ended' | 'reset' = 'open';
  #receivedBytes = 0;
  #grantedBytes = 0;
  #creditBytes = creditBytes;
  #chunks: Uint8Array[] = [];
  #chunksBytes = 0;
  #done: (() => void) | undefined;
  #queued = false;
  #leftMs: number | undefined;

  constructor(host: ChannelHost, number: number, peer: Peer, listener: number) {
    this.#host = host;
    this.number = number;
    this.connection = new InnerConnection(this, peer, listener);
  }

  /** From inside: bytes. */
  data(bytes: Buffer): void {
    if (this.#theirs !== 'open') throw broken(`data of connection ${this.number}, which is ${this.#theirs}`);
    this.#receivedBytes += bytes.length;
    if (this.#receivedBytes > this.#grantedBytes + creditBytes)
      throw broken(`more data of connection ${this.number} than was granted`);
    if (this.#ours === 'reset') return;
    if (this.connection.destroyed) return this.#giveUp();
    this.#guarded(() => this.connection.push(bytes));
    this.consumed(this.connection.readableLength);
  }

  /** From inside: no more will come. */
  ended(): void {
    if (this.#theirs !== 'open') throw broken(`the end of connection ${this.number}, which is ${this.#theirs}`);
    this.#theirs = 'ended';
    if (!this.connection.destroyed) this.#guarded(() => this.connection.push(null));
  }

  /** From inside: it is no more. */
  wasReset(): void {
    if (this.#theirs === 'reset') throw broken(`a second reset of connection ${this.number}`);
    this.#theirs = 'reset';
    this.#drop();
    this.connection.destroy(new SocketError(errno.connectionReset, `the connection with ${this.#peer}`));
  }

  /** From inside: there is room for more. */
  granted(bytes: number): void {
    this.#creditBytes += bytes;
    if (bytes === 0 || this.#creditBytes > creditBytes)
      throw broken(`${bytes} bytes granted to connection ${this.number}, which has not sent them`);
    this.#enqueue();
  }

  /** From inside: both sides are closed, and the last word is said. */
  forgotten(): void {
    const closed = this.#theirs === 'ended' && this.#ours === 'ended';
    if (!closed && this.#theirs !== 'reset' && this.#ours !== 'reset')
      throw broken(`connection ${this.number} was forgotten while it is open`);
  }

  /** The gateway is gone. */
  lose(reason: Error): void {
    this.#ours = 'reset';
    this.#drop();
    this.connection.destroy(reason);
  }

  /** Nothing of it is waited for for ever. */
  tick(nowMs: number): void {
    if (this.#leftMs !== undefined && nowMs > this.#leftMs + lingerMs) this.#giveUp();
  }

  /** Its turn: at most `maxBytes` as one record. True when it wants another turn. */
  transmit(maxBytes: number): boolean {
    this.#queued = false;
    const most = Math.min(maxBytes - dataHeadBytes, this.#creditBytes);
    if (this.#chunksBytes === 0 || most <= 0) return false;
    const length = Math.ceil(this.#chunksBytes / Math.ceil(this.#chunksBytes / most));
    this.#host.write([dataHead(this.number, length), ...this.#takeChunks(length)], dataHeadBytes + length);
    this.#creditBytes -= length;
    if (this.#chunksBytes > 0) return (this.#queued = this.#creditBytes > 0);
    const done = this.#done;
    this.#done = undefined;
    done?.();
    return false;
  }

  send(chunks: readonly Uint8Array[], done: () => void): void {
    this.#chunks.push(...chunks);
    for (const chunk of chunks) this.#chunksBytes += chunk.length;
    if (this.#chunksBytes === 0) return done();
    this.#done = done;
    this.#enqueue();
  }

  finish(): void {
    if (this.#ours !== 'open' || this.#theirs === 'reset') return;
    this.#ours = 'ended';
    this.#host.say(endRecord(this.number));
  }

  leave(failed: boolean): void {
    if (this.#theirs === 'reset' || (this.#theirs === 'ended' && this.#ours === 'ended')) return;
    if (failed || this.#ours === 'open') this.#giveUp();
    else this.#leftMs = performance.now();
  }

  consumed(heldBytes: number): void {
    const bytes = this.#receivedBytes - heldBytes - this.#grantedBytes;
    if (bytes < grantAtBytes || this.#theirs !== 'open' || this.#ours === 'reset') return;
    this.#grantedBytes += bytes;
    this.#host.say(grantRecord(this.number, bytes));
  }

  #enqueue(): void {
    if (this.#queued || this.#chunksBytes === 0 || this.#creditBytes === 0) return;
    this.#queued = true;
    this.#host.queue(this);
  }

  #giveUp(): void {
    if (this.#ours === 'reset') return;
    this.#ours = 'reset';
    this.#leftMs = undefined;
    this.#drop();
    this.#host.say(resetRecord(this.number));
  }

  #drop(): void {
    this.#chunks = [];
    this.#chunksBytes = 0;
    this.#done = undefined;
  }

  #takeChunks(lengthBytes: number): Uint8Array[] {
    const taken: Uint8Array[] = [];
    let left = lengthBytes;
    let whole = 0;
    for (const chunk of this.#chunks) {
      if (left === 0) break;
      const piece = chunk.length <= left ? chunk : chunk.subarray(0, left);
      taken.push(piece);
      left -= piece.length;
      if (piece.length < chunk.length) this.#chunks[whole] = chunk.subarray(piece.length);
      else whole++;
    }
    this.#chunks.splice(0, whole);
    this.#chunksBytes -= lengthBytes;
    return taken;
  }

  /** What the owner's listeners throw ends this connection and nothing else. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.connection.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }

  get #peer(): string {
    const { address, port } = this.connection.peer;
    return `${address}:${port} inside the sandbox`;
  }
}
