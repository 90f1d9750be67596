import { constants, performServerHandshake, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { Exchange } from './exchange.ts';
import type { HttpLimits } from './http-deps.ts';
import { Http2Exchange } from './http2-exchange.ts';

/**
 * Serves HTTP/2 on one connection until it is closed. Promises:
 *  - every stream is carried as a request of its own, at most `streamsMax` at once;
 *  - a client that opens and resets streams, or floods with frames that need answers, loses the connection;
 *  - a connection without a stream is closed after `idleMs`;
 *  - what waits of bodies that nobody reads yet is 64 KiB a stream (the protocol's default), and no more.
 *
 * `carry` never rejects.
 */
export function serveHttp2(
  socket: Duplex,
  carry: (exchange: Exchange) => Promise<void>,
  limits: HttpLimits,
): Promise<void> {
  return socket.destroyed ? Promise.resolve() : new Http2Connection(socket, carry, limits).closed;
}

class Http2Connection {
  readonly closed: Promise<void>;
  readonly #session: ServerHttp2Session;
  readonly #socket: Duplex;
  readonly #limits: HttpLimits;
  #carried = 0;
  #resets: number[] = [];
  #clock: NodeJS.Timeout | undefined;

  constructor(socket: Duplex, carry: (exchange: Exchange) => Promise<void>, limits: HttpLimits) {
    this.#socket = socket;
    this.#limits = limits;
    this.#session = performServerHandshake(socket, {
      maxSessionMemory: 10,
      maxHeaderListPairs: limits.headersMax,
      maxSessionInvalidFrames: 100,
      maxSessionRejectedStreams: 100,
      settings: {
        enablePush: false,
        maxConcurrentStreams: limits.streamsMax,
        maxHeaderListSize: limits.headBytes,
      },
    });
    this.#session.on('error', () => this.#end());
    this.#session.on('close', () => this.#end());
    this.#session.on('goaway', () => this.#await());
    this.#session.on('stream', (stream: ServerHttp2Stream, _headers: unknown, flags: number, raw: string[]) => {
      clearTimeout(this.#clock);
      // Before anything else: it may have been reset already, and an error that nobody hears would end the runner.
      stream.on('error', () => undefined);
      // Opened and reset at once: there is nobody to answer.
      if (stream.destroyed || stream.aborted) return this.#reset();
      // More than may be open at once are under way: the client has reset streams whose requests are still being given up.
      if (this.#carried >= 2 * limits.streamsMax) return this.#calm();
      this.#carried += 1;
      stream.once('close', () => {
        if (stream.aborted || (stream.rstCode ?? 0) === constants.NGHTTP2_CANCEL) this.#reset();
      });
      const exchange = new Http2Exchange(stream, raw, (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0);
      void carry(exchange)
        .catch(() => exchange.cut())
        .then(() => {
          this.#carried -= 1;
          if (this.#carried === 0) this.#await();
        });
    });
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#end();
        resolve();
      });
    });
    this.#await();
  }

  #await(): void {
    clearTimeout(this.#clock);
    if (this.#session.destroyed || this.#carried > 0) return;
    this.#clock = setTimeout(() => this.#session.destroy(), this.#limits.idleMs);
  }

  #reset(): void {
    const now = performance.now();
    this.#resets = this.#resets.filter((at) => now - at < resetWindowMs);
    this.#resets.push(now);
    if (this.#resets.length > this.#limits.resetsMax) return this.#calm();
    if (this.#carried === 0) this.#await();
  }

  #calm(): void {
    if (!this.#session.destroyed) this.#session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }

  #end(): void {
    clearTimeout(this.#clock);
    if (!this.#session.destroyed) this.#session.destroy();
    this.#socket.destroy();
  }
}

const resetWindowMs = 10_000;
