import type { Channel, ChannelHost } from './gateway-channel.ts';
import { GatewayInput, inputPieceMax } from './gateway-input.ts';
import type { Link } from '../link.ts';

/** Below this much room data waits for more, rather than be cut into crumbs. */
const roomLeastBytes = 4_096;

/**
 * What goes to a gateway, in order: short records first, then each connection that has data one record in turn, as long as there
 * is room. What waits is one short record per thing that it is about, and the data stays with its connection.
 */
export class GatewayOutbox implements ChannelHost {
  readonly input: GatewayInput;
  #records: Buffer[] = [];
  #turns: Channel[] = [];
  #pumping = false;
  #closed = false;

  constructor(link: Link, call: number) {
    this.input = new GatewayInput(link, call, () => this.#pump());
  }

  /** Short records that wait. */
  get waiting(): number {
    return this.#records.length;
  }

  say(record: Buffer): void {
    if (this.#closed) return;
    this.#records.push(record);
    this.#pump();
  }

  queue(channel: Channel): void {
    if (this.#closed) return;
    this.#turns.push(channel);
    this.#pump();
  }

  write(pieces: readonly Uint8Array[], lengthBytes: number): void {
    this.input.write(pieces, lengthBytes);
  }

  /** What waits is dropped, and nothing more is taken. */
  close(): void {
    this.#closed = true;
    this.#records = [];
    this.#turns = [];
  }

  /** Not from within itself: what is told of its turn may have more to say. */
  #pump(): void {
    if (this.#pumping || this.#closed) return;
    this.#pumping = true;
    try {
      while (this.#sayRecords() && this.#takeTurn()) continue;
    } finally {
      this.#pumping = false;
    }
  }

  /** True when none is left. */
  #sayRecords(): boolean {
    let said = 0;
    for (const record of this.#records) {
      if (this.input.roomBytes < record.length) break;
      this.input.write([record], record.length);
      said++;
    }
    if (said > 0) this.#records.splice(0, said);
    return this.#records.length === 0;
  }

  #takeTurn(): boolean {
    if (this.#turns.length === 0) return false;
    const room = Math.min(this.input.roomBytes, inputPieceMax);
    if (room < roomLeastBytes) return false;
    const channel = this.#turns.shift();
    if (channel?.transmit(room) === true) this.#turns.push(channel);
    return true;
  }
}
