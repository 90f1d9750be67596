import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readable, Writable } from 'node:stream';
import type { Exchange } from './exchange.ts';
import { flatOf, pairsOf, valuesOf } from './http-headers.ts';
import type { HeaderPair } from './http-deps.ts';

/** A request in HTTP/1. Its framing was read by Node's parser, and the answer's is written by it: no byte of it is passed on. */
export class Http1Exchange implements Exchange {
  readonly method: string;
  readonly target: string;
  readonly headers: readonly HeaderPair[];
  readonly hosts: readonly string[];
  readonly body: Readable | undefined;
  readonly expects: 'nothing' | 'continue' | 'unknown';
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  #gone = false;
  #tellGone: (() => void) | undefined;
  readonly over: Promise<void>;
  #announced = false;

  constructor(request: IncomingMessage, response: ServerResponse, discardBytes: number) {
    this.#request = request;
    this.#response = response;
    this.method = request.method ?? '';
    this.target = request.url ?? '';
    this.headers = pairsOf(request.rawHeaders);
    this.hosts = valuesOf(this.headers, 'host');
    this.body = hasBody(this.headers) ? request : undefined;
    this.expects = expectationOf(this.headers);
    this.#announced = this.expects === 'continue';
    response.sendDate = false;
    response.on('error', () => undefined);
    request.on('error', () => undefined);
    this.over = new Promise((resolve) => {
      // Before Node would throw it away by itself, without a bound.
      response.once('prefinish', () => this.#discard(discardBytes));
      response.once('finish', resolve);
      response.once('close', () => {
        if (!response.writableFinished) this.#leave();
        resolve();
      });
    });
  }

  onGone(listener: () => void): void {
    this.#tellGone = listener;
    if (this.#gone) listener();
  }

  get responded(): boolean {
    return this.#response.headersSent;
  }

  proceed(): void {
    if (!this.#announced || this.responded) return;
    this.#announced = false;
    this.#response.writeContinue();
  }

  respond(status: number, headers: readonly HeaderPair[], length: number | undefined): Writable {
    const framed: readonly HeaderPair[] =
      length === undefined ? headers : [...headers, ['content-length', String(length)]];
    // It was never told to send the body: what comes next may be the body or the next request.
    if (this.#announced) this.#response.shouldKeepAlive = false;
    this.#response.writeHead(status, flatOf(framed));
    return this.#response;
  }

  cut(): void {
    this.#request.socket.destroy();
  }

  #leave(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#tellGone?.();
  }

  /** The rest of a body that nobody has read, so that the next request can come; up to a bound. */
  #discard(bytesMax: number): void {
    if (this.#request.complete) return;
    let bytes = 0;
    this.#request.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > bytesMax) this.cut();
    });
    this.#request.resume();
  }
}

function hasBody(headers: readonly HeaderPair[]): boolean {
  if (valuesOf(headers, 'transfer-encoding').length > 0) return true;
  return valuesOf(headers, 'content-length').some((value) => Number(value) !== 0);
}

function expectationOf(headers: readonly HeaderPair[]): Exchange['expects'] {
  const values = valuesOf(headers, 'expect');
  if (values.length === 0) return 'nothing';
  return values.every((value) => value.toLowerCase() === '100-continue') ? 'continue' : 'unknown';
}
