import { RunnerError } from '../errors.ts';
import { broken } from './frames.ts';
import type { Link } from './link.ts';
import { payloadMax, toSupervisor, windowBytes } from './wire.ts';

const pieceMax = payloadMax - 8;

/**
 * The input of one call. Promises: never more than the window ahead of what the process has read; bytes that are not
 * acknowledged are kept, so that a new link can send them again; nothing is sent after the end of input.
 */
export class StdinPipe {
  readonly #call: number;
  #link: Link;
  #sentBytes = 0;
  #ackedBytes = 0;
  #unacked: { readonly offset: number; readonly payload: Buffer }[] = [];
  #ended = false;
  #endSent = false;
  #closed = false;
  #queue: Promise<void> = Promise.resolve();
  #wake: (() => void) | undefined;

  constructor(link: Link, call: number) {
    this.#link = link;
    this.#call = call;
  }

  /** Nobody reads any more, or the end of input has been sent. */
  get closed(): boolean {
    return this.#closed || this.#ended;
  }

  /** Resolves when all of it is on its way; in order, whoever calls. The bytes may be changed afterwards. */
  write(bytes: Uint8Array, end = false): Promise<void> {
    const done = this.#queue.then(() => this.#send(bytes, end));
    this.#queue = done.catch(() => undefined);
    return done;
  }

  acknowledged(offset: number, closed: boolean): void {
    if (offset < this.#ackedBytes || offset > this.#sentBytes) throw broken('STDIN_ACK for bytes that were never sent');
    this.#ackedBytes = offset;
    while ((this.#unacked[0]?.offset ?? offset) + (this.#unacked[0]?.payload.length ?? 1) <= offset)
      this.#unacked.shift();
    if (closed) this.close();
    this.#wake?.();
  }

  /** No byte will be taken any more. */
  close(): void {
    this.#closed = true;
    this.#unacked = [];
    this.#wake?.();
  }

  /** Goes on over another link; the supervisor has everything below `offset`. */
  resume(link: Link, offset: number): void {
    this.#link = link;
    if (offset > this.#sentBytes && this.#sentBytes > 0) throw broken('more input than was ever sent');
    this.#sentBytes = Math.max(this.#sentBytes, offset);
    for (const piece of this.#unacked) {
      const skip = Math.max(0, offset - piece.offset);
      if (skip < piece.payload.length) this.#frame(piece.offset + skip, piece.payload.subarray(skip), false);
    }
    if (this.#endSent && !this.#closed) this.#frame(this.#sentBytes, Buffer.alloc(0), true);
  }

  async #send(bytes: Uint8Array, end: boolean): Promise<void> {
    if (this.closed) throw this.#refusal();
    this.#ended ||= end;
    for (let at = 0; at < bytes.length;) {
      if (this.#closed) throw this.#refusal();
      const room = this.#ackedBytes + windowBytes - this.#sentBytes;
      if (room <= 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      const payload = Buffer.from(bytes.subarray(at, at + Math.min(room, pieceMax)));
      at += payload.length;
      const offset = this.#sentBytes;
      this.#unacked.push({ offset, payload });
      this.#sentBytes += payload.length;
      this.#endSent = end && at === bytes.length;
      this.#frame(offset, payload, this.#endSent);
      await this.#link.ready();
    }
    if (end && !this.#endSent) {
      this.#endSent = true;
      this.#frame(this.#sentBytes, Buffer.alloc(0), true);
    }
  }

  #refusal(): RunnerError {
    return new RunnerError('invalid_request', `nobody reads the input of call ${this.#call} any more`);
  }

  #frame(offset: number, bytes: Uint8Array, end: boolean): void {
    const payload = Buffer.allocUnsafe(8 + bytes.length);
    payload.writeUInt32LE(offset % 4_294_967_296, 0);
    payload.writeUInt32LE(Math.floor(offset / 4_294_967_296), 4);
    payload.set(bytes, 8);
    this.#link.send(toSupervisor.stdin, this.#call, payload, end ? 1 : 0);
  }
}
