import { parseJSONRPCMessage, type JSONRPCMessage, type RequestId, type Transport } from '@modelcontextprotocol/server';
import { messageOf } from '../errors.ts';
import { InFlight, rpcCodes } from '../stdio/in-flight.ts';
import type { LineChannel } from '../stdio/line-channel.ts';

/** Requests that are answered at a time; one more is told so at once. */
const inFlightMax = 64;

/**
 * One client of the protocol on two streams of lines. Whatever it sends, the connection goes on: what cannot be read is answered
 * with an error, an id that is in use or one request too many is not passed on.
 */
export class LineTransport implements Transport {
  onclose?: (() => void) | undefined;
  onerror?: ((error: Error) => void) | undefined;
  onmessage?: Transport['onmessage'];
  readonly #channel: LineChannel;
  readonly #lineBytesMax: number;
  /** Nothing more comes from the client. */
  readonly ended: Promise<void>;
  readonly #inFlight = new InFlight(inFlightMax);
  #tellEnded: () => void = () => undefined;
  #closed = false;

  constructor(channel: LineChannel, lineBytesMax: number) {
    this.#channel = channel;
    this.#lineBytesMax = lineBytesMax;
    this.ended = new Promise((resolve) => {
      this.#tellEnded = resolve;
    });
  }

  async start(): Promise<void> {
    void this.#read();
  }

  async send(message: JSONRPCMessage): Promise<void> {
    if (this.#closed) return;
    if (!('method' in message) && message.id !== undefined) this.#inFlight.done(message.id);
    await this.#channel.send(message);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#tellEnded();
    this.onclose?.();
  }

  async #read(): Promise<void> {
    try {
      for await (const line of this.#channel.lines()) {
        if (this.#closed) return;
        if (line.kind === 'line') await this.#take(line.text);
        else
          await this.#refuse(
            null,
            rpcCodes.invalid,
            `a line is longer than ${this.#lineBytesMax} bytes; it was skipped`,
          );
      }
    } catch (error) {
      this.onerror?.(error instanceof Error ? error : new Error(messageOf(error)));
    } finally {
      await this.close();
    }
  }

  async #take(text: string): Promise<void> {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      return this.#refuse(null, rpcCodes.parse, `not JSON: ${messageOf(error)}`);
    }
    const message = messageIn(value);
    if (message === undefined)
      return this.#refuse(idIn(value), rpcCodes.invalid, 'not a message of JSON-RPC 2.0 (batches are not taken)');
    if ('method' in message) {
      const refused = 'id' in message ? this.#inFlight.admit(message.id) : this.#noteCancelled(message);
      if (refused !== undefined && 'id' in message) return this.#refuse(message.id, refused.code, refused.message);
    }
    this.onmessage?.(message);
  }

  /** What was cancelled is not answered. */
  #noteCancelled(message: { method: string; params?: Record<string, unknown> | undefined }): undefined {
    const id = message.method === 'notifications/cancelled' ? message.params?.['requestId'] : undefined;
    if (typeof id === 'string' || typeof id === 'number') this.#inFlight.done(id);
  }

  /** `null` says that the id is not known; the protocol's types have no word for it. */
  async #refuse(id: RequestId | null, code: number, message: string): Promise<void> {
    await this.#channel.send({ jsonrpc: '2.0', id, error: { code, message } });
  }
}

function messageIn(value: unknown): JSONRPCMessage | undefined {
  try {
    return parseJSONRPCMessage(value);
  } catch {
    return undefined;
  }
}

function idIn(value: unknown): RequestId | null {
  const id = typeof value === 'object' && value !== null && 'id' in value ? value.id : null;
  return typeof id === 'string' || typeof id === 'number' ? id : null;
}
