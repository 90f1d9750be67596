import type { Duplex } from 'node:stream';

/** One request, as the service's routes take it. */
export interface Ask {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  /** From the root on, with its query, encoded. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Pieces are sent as they come, and only once. */
  readonly body?: Uint8Array | string | AsyncIterable<Uint8Array>;
  readonly signal?: AbortSignal | undefined;
  /** Asking twice is the same as asking once: it only looks, or it is a call under its id. */
  readonly repeatable?: boolean;
  /** The service is given up when it is silent for so long; default 60,000. */
  readonly silenceMs?: number;
}

/** What a service says; the body may be read once, and breaks with a `LostConnection` where the connection does. */
export interface Answer {
  readonly status: number;
  header(name: string): string | undefined;
  readonly body: AsyncIterable<Uint8Array>;
  /** Nobody reads the rest. */
  discard(): void;
}

/**
 * The way to a service: over a socket, or into one in this process. Nothing here asks twice. Rejects with `NotConnected` where
 * the request was certainly not heard, with `LostConnection` where it may have been, and with the signal's reason.
 */
export interface Transport {
  /** For messages: where the service is. */
  readonly where: string;
  send(ask: Ask): Promise<Answer>;
  /** The bytes of a terminal or of a port inside, both ways. */
  connect(path: string, signal?: AbortSignal): Promise<Duplex>;
  close(): Promise<void>;
}

export class NotConnected extends Error {
  override readonly name = 'NotConnected';
}

export class LostConnection extends Error {
  override readonly name = 'LostConnection';
}
