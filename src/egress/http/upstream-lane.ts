import type { Readable, Writable } from 'node:stream';
import type { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import { Client, type buildConnector, type Dispatcher } from 'undici';
import { EgressFailure } from '../failure.ts';
import { flatOf, headBytes, pairsOf } from './http-headers.ts';
import type { HeaderPair } from './http-deps.ts';

export interface LaneRequest {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly headers: readonly HeaderPair[];
  readonly body: Readable | null;
  readonly upgrade: boolean;
  /** Aborted: the request ends here and the connection with it. */
  readonly signal: AbortSignal;
  /** Before bytes are passed on; what it throws ends the request. */
  received(bytes: number): void;
  /** The head of the answer. What it returns takes the body; it is ended when the body is whole. */
  respond(status: number, headers: readonly HeaderPair[]): Writable;
  /** Instead of `respond`, when the upstream changes protocols. */
  upgraded(headers: readonly HeaderPair[], socket: Duplex): void;
}

/** The upstream closed a kept connection before the request was written: nothing of it has arrived. */
export class LaneClosed extends Error {
  override readonly name = 'LaneClosed';
  /** Some of the request may have arrived. */
  readonly written: boolean;

  constructor(written: boolean, cause: unknown) {
    super('the kept connection was closed', { cause });
    this.written = written;
  }
}

/** Of what the parser swallows, such as extensions of chunks: nobody else would count it. More than a head or trailers may have. */
const silentMaxBytes = 262_144;
/** Of an answer: each is looked at and copied several times. */
const headersMax = 256;

/** One connection to an upstream, dialled and checked before: it carries one request at a time and never dials by itself. */
export class UpstreamLane {
  /** What it may be used for again. */
  readonly key: string;
  /** `null`: a proxy of the operator resolved the name. */
  readonly address: string | null;
  readonly #client: Client;
  readonly #socket: Socket;
  readonly #tap: Tap;
  #used = false;
  #taken = false;

  constructor(key: string, origin: string, socket: Socket, address: string | null, headBytesMax: number) {
    this.key = key;
    this.address = address;
    this.#socket = socket;
    this.#tap = new Tap(socket);
    this.#client = new Client(origin, {
      // Not at once: the client forgets what is answered while it still asks.
      connect: (_options, done) => queueMicrotask(() => this.#connect(done)),
      pipelining: 1,
      maxHeaderSize: headBytesMax,
      // The pass of each request has its own clock.
      headersTimeout: 0,
      bodyTimeout: 0,
    });
  }

  get reused(): boolean {
    return this.#used;
  }

  get usable(): boolean {
    return !this.#socket.destroyed && !this.#client.destroyed;
  }

  /** Resolves with the status once the whole answer is in the hands of `respond`, or the protocol was changed. */
  send(request: LaneRequest): Promise<number> {
    const kept = this.#used;
    this.#used = true;
    return new Promise((resolve, reject) => {
      const reply = new Reply(request, this.#tap, kept, resolve, reject);
      this.#client.dispatch(
        {
          method: request.method,
          path: request.path,
          headers: flatOf(request.headers),
          body: request.body,
          ...(request.upgrade ? { upgrade: 'websocket' } : {}),
        },
        reply,
      );
    });
  }

  #connect(done: Parameters<buildConnector.connector>[1]): void {
    if (this.#taken || this.#socket.destroyed) return done(new LaneClosed(false, undefined), null);
    this.#taken = true;
    done(null, this.#socket);
  }

  destroy(): void {
    this.#socket.destroy();
    void this.#client.destroy().catch(() => undefined);
  }
}

/**
 * Keeps what a socket has read from its reader while nobody wants it. Instead of the parser's own pause: a connection that ends or
 * is destroyed while that is paused fails an assertion where nobody hears it, and that ends the runner (undici 7.30, `finish`).
 */
class Tap {
  readonly #socket: Socket;
  #shut = false;
  #silentBytes = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
    const read = socket.read.bind(socket);
    socket.read = (size?: number): unknown => {
      const chunk = this.#shut ? null : (read(size) as Buffer | null);
      this.#silentBytes += chunk?.length ?? 0;
      if (this.#silentBytes > silentMaxBytes)
        socket.destroy(new EgressFailure('broken', 'the server sends what is no part of an answer'));
      return chunk;
    };
  }

  /** Something of an answer was among what was read. */
  heard(): void {
    this.#silentBytes = 0;
  }

  /** What is read from here on is no answer. */
  leave(): void {
    this.#silentBytes = -Infinity;
  }

  shut(): void {
    this.#shut = true;
  }

  /** Not at once: whoever says so may be within the parser. */
  open(): void {
    if (!this.#shut) return;
    this.#shut = false;
    queueMicrotask(() => this.#socket.emit('readable'));
  }

  /** What it has read last may not have been the end. */
  get isBroken(): boolean {
    return this.#socket.errored !== null;
  }
}

/** Takes one answer, at the pace of whoever reads it. */
class Reply implements Dispatcher.DispatchHandler {
  readonly #request: LaneRequest;
  readonly #tap: Tap;
  readonly #kept: boolean;
  readonly #resolve: (status: number) => void;
  readonly #reject: (error: unknown) => void;
  #abort: () => void = () => undefined;
  #sink: Writable | undefined;
  #status = 0;

  constructor(
    request: LaneRequest,
    tap: Tap,
    kept: boolean,
    resolve: (status: number) => void,
    reject: (error: unknown) => void,
  ) {
    this.#request = request;
    this.#tap = tap;
    this.#kept = kept;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    const { signal } = this.#request;
    this.#abort = () => controller.abort(reasonOf(signal));
    if (signal.aborted) return this.#abort();
    signal.addEventListener('abort', this.#abort, { once: true });
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    this.#tap.heard();
    const headers = pairsOf((controller.rawHeaders ?? []) as readonly (string | Buffer)[]);
    this.#request.received(headBytes(`HTTP/1.1 ${status}`, headers));
    if (headers.length > headersMax)
      throw new EgressFailure('broken', `the answer has more than ${headersMax} headers`);
    if (status < 200) return; // Only the final answer is passed on (RFC 9110, 15.2).
    this.#status = status;
    const sink = this.#request.respond(status, headers);
    this.#sink = sink;
    sink.on('drain', () => this.#tap.open());
    sink.once('error', (error) => controller.abort(error));
    sink.once('close', () => {
      if (!sink.writableFinished) controller.abort(new EgressFailure('cut', 'the client went away'));
    });
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#tap.heard();
    this.#request.received(chunk.length);
    if (this.#sink?.write(chunk) === false) this.#tap.shut();
  }

  onResponseEnd(): void {
    const sink = this.#sink;
    if (sink === undefined) return this.#finish(new EgressFailure('broken', 'the server sent no answer'));
    if (this.#tap.isBroken) return this.#finish(new EgressFailure('broken', 'the connection broke within the answer'));
    this.#tap.heard();
    sink.end();
    this.#finish(undefined);
  }

  onRequestUpgrade(controller: Dispatcher.DispatchController, status: number, _headers: unknown, socket: Duplex): void {
    this.#status = status;
    this.#tap.leave();
    try {
      this.#request.upgraded(pairsOf((controller.rawHeaders ?? []) as readonly (string | Buffer)[]), socket);
      this.#finish(undefined);
    } catch (error) {
      socket.destroy();
      this.#finish(error);
    }
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    const { signal } = this.#request;
    this.#finish(signal.aborted ? reasonOf(signal) : failureOfUpstream(error, this.#kept && this.#sink === undefined));
  }

  #finish(error: unknown): void {
    this.#request.signal.removeEventListener('abort', this.#abort);
    this.#tap.open();
    if (error === undefined) this.#resolve(this.#status);
    else this.#reject(error);
  }
}

function reasonOf(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new EgressFailure('cut', 'it was cut');
}

function failureOfUpstream(error: Error & { readonly code?: string }, kept: boolean): Error {
  // Ours: of a bound, or of a credential.
  if (error instanceof LaneClosed || 'reason' in error) return error;
  const code = error.code ?? error.name;
  const closed = /^(UND_ERR_SOCKET|UND_ERR_INFO|ECONNRESET|EPIPE)$/.test(code);
  if (closed && kept) return new LaneClosed(true, error);
  const cause = { cause: error };
  if (closed) return new EgressFailure('refused', 'the server closed the connection before it had answered', cause);
  return new EgressFailure('broken', `the answer is not HTTP/1.1 (${code})`, cause);
}
