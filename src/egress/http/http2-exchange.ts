import { constants, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { Writable, type Readable } from 'node:stream';
import type { Exchange } from './exchange.ts';
import { pairsOf, valuesOf } from './http-headers.ts';
import type { HeaderPair } from './http-deps.ts';

/** A request in HTTP/2: one stream. */
export class Http2Exchange implements Exchange {
  readonly method: string;
  readonly target: string;
  readonly scheme: string;
  readonly headers: readonly HeaderPair[];
  readonly hosts: readonly string[];
  readonly body: Readable | undefined;
  readonly expects: 'nothing' | 'continue' | 'unknown';
  readonly over: Promise<void>;
  readonly #stream: ServerHttp2Stream;
  #gone = false;
  #tellGone: (() => void) | undefined;

  constructor(stream: ServerHttp2Stream, rawHeaders: readonly string[], ended: boolean) {
    const all = pairsOf(rawHeaders);
    this.#stream = stream;
    this.method = valuesOf(all, ':method')[0] ?? '';
    this.target = valuesOf(all, ':path')[0] ?? '';
    this.scheme = valuesOf(all, ':scheme')[0] ?? '';
    this.headers = withOneCookie(all.filter(([name]) => !name.startsWith(':')));
    // RFC 9113, 8.3.1: where both are there they say the same.
    this.hosts = [...new Set([...valuesOf(all, ':authority'), ...valuesOf(all, 'host')])];
    this.body = ended ? undefined : stream;
    const expected = valuesOf(all, 'expect');
    this.expects = expected.length === 0 ? 'nothing' : /^100-continue$/i.test(expected.join()) ? 'continue' : 'unknown';
    stream.on('error', () => undefined);
    // Node ends the stream of a client that has gone, so that its end says nothing.
    stream.once('aborted', () => this.#leave());
    this.over = new Promise((resolve) => {
      stream.once('finish', () => {
        // Nobody reads the rest of the request (RFC 9113, 8.1).
        if (!stream.readableEnded) stream.close(constants.NGHTTP2_NO_ERROR);
        resolve();
      });
      stream.once('close', () => {
        if (!stream.writableFinished) this.#leave();
        resolve();
      });
    });
  }

  onGone(listener: () => void): void {
    this.#tellGone = listener;
    if (this.#gone) listener();
  }

  get responded(): boolean {
    return this.#stream.headersSent;
  }

  proceed(): void {
    if (this.expects === 'continue' && !this.responded && !this.#stream.closed && !this.#stream.destroyed) {
      this.#stream.additionalHeaders({ ':status': 100 });
    }
  }

  respond(status: number, headers: readonly HeaderPair[], length: number | undefined): Writable {
    if (this.#stream.destroyed || this.#stream.closed)
      return new Writable({ write: (_chunk, _encoding, done) => done() });
    const bodiless = this.method === 'HEAD' || status === 204 || status === 205 || status === 304;
    this.#stream.respond(fields(status, headers, length), { endStream: bodiless });
    return this.#stream;
  }

  cut(): void {
    if (!this.#stream.destroyed) this.#stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }

  #leave(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#tellGone?.();
  }
}

/** RFC 9113, 8.2.3: clients may send one cookie a field; HTTP/1 has one field for all. */
function withOneCookie(headers: readonly HeaderPair[]): readonly HeaderPair[] {
  const cookies = valuesOf(headers, 'cookie');
  if (cookies.length < 2) return headers;
  return [...headers.filter(([name]) => name !== 'cookie'), ['cookie', cookies.join('; ')]];
}

function fields(status: number, headers: readonly HeaderPair[], length: number | undefined): OutgoingHttpHeaders {
  const found = new Map<string, string[]>();
  for (const [name, value] of headers) {
    const lower = name.toLowerCase();
    const before = found.get(lower);
    if (before === undefined) found.set(lower, [value]);
    else if (!singles.has(lower)) before.push(value);
  }
  if (length !== undefined) found.set('content-length', [String(length)]);
  return { ...Object.fromEntries(found), ':status': status };
}

/** Node refuses a second one of these; the first is good enough. */
const singles: ReadonlySet<string> = new Set(
  (
    'access-control-allow-credentials access-control-max-age access-control-request-method age authorization content-encoding ' +
    'content-language content-length content-location content-md5 content-range content-type date dnt etag expires from host ' +
    'if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards ' +
    'proxy-authorization range referer retry-after tk upgrade-insecure-requests user-agent x-content-type-options'
  ).split(' '),
);
