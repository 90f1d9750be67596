import { u64Bytes, type CallInput } from '../call-wire.ts';
import { broken } from '../frames.ts';
import type { Link } from '../link.ts';
import { payloadMax, toSupervisor, windowBytes } from '../wire.ts';

/** The most that one write may hold. */
export const inputPieceMax = payloadMax - 8;

/**
 * The input of a gateway's call: written at once or not at all, and never kept, since a gateway does not outlive its link.
 * Never more than the window is ahead of what the gateway has read. `room` is told, once, after `roomBytes` was 0.
 */
export class GatewayInput implements CallInput {
  readonly #link: Link;
  readonly #call: number;
  readonly #room: () => void;
  #sentBytes = 0;
  #ackedBytes = 0;
  #draining = false;
  #closed = false;

  constructor(link: Link, call: number, room: () => void) {
    this.#link = link;
    this.#call = call;
    this.#room = room;
  }

  /** What may be written now. */
  get roomBytes(): number {
    if (this.#closed || this.#draining) return 0;
    const full = this.#link.ready();
    if (full === undefined) return this.#ackedBytes + windowBytes - this.#sentBytes;
    this.#draining = true;
    void full.then(() => {
      this.#draining = false;
      this.#room();
    });
    return 0;
  }

  /** One frame; `lengthBytes` of all pieces, for which there is room. */
  write(pieces: readonly Uint8Array[], lengthBytes: number): void {
    const offset = u64Bytes(this.#sentBytes);
    this.#sentBytes += lengthBytes;
    this.#link.send(toSupervisor.stdin, this.#call, [offset, ...pieces]);
  }

  /** No more will be written. */
  end(): void {
    if (!this.#closed) this.#link.send(toSupervisor.stdin, this.#call, u64Bytes(this.#sentBytes), 1);
    this.#closed = true;
  }

  acknowledged(offset: number, closed: boolean): void {
    if (offset < this.#ackedBytes || offset > this.#sentBytes) throw broken('STDIN_ACK for bytes that were never sent');
    this.#ackedBytes = offset;
    this.#closed ||= closed;
    this.#room();
  }

  close(): void {
    this.#closed = true;
  }
}
