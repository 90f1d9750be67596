import { Agent as HttpAgent, request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import type * as Https from 'node:https';
import { Readable, type Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { messageOf, RunnerError } from '../errors.ts';
import { LostConnection, NotConnected, type Answer, type Ask, type Transport } from './transport.ts';

/** Where a service listens. */
export interface Address {
  /** `http://`, `https://` or `unix:/path`. */
  readonly url: string;
  /** Of a key; goes into `Authorization` and nowhere else. A unix socket's owner needs none. */
  readonly key?: string | undefined;
  /** Another identity of the owner of a unix socket, where the service takes one. */
  readonly as?: string | undefined;
}

type Tls = Pick<typeof Https, 'Agent' | 'request'>;

const connectMs = 10_000;
const silenceMs = 60_000;

/** Over TCP, TLS or a unix socket, with Node's own HTTP and connections that are kept. */
export class HttpTransport implements Transport {
  readonly where: string;
  readonly #base: URL;
  readonly #socketPath: string | undefined;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #secure: Tls | undefined;
  readonly #agent: HttpAgent | Https.Agent;
  readonly #streams = new Set<IncomingMessage>();

  private constructor(address: Address, target: Target, secure: Tls | undefined) {
    this.where = address.url;
    this.#base = target.base;
    this.#socketPath = target.socketPath;
    this.#headers = {
      ...(address.key === undefined ? {} : { authorization: `Bearer ${address.key}` }),
      ...(address.as === undefined ? {} : { 'x-glovebox-as': address.as }),
    };
    this.#secure = secure;
    this.#agent = new (secure?.Agent ?? HttpAgent)({ keepAlive: true, maxFreeSockets: 16 });
  }

  /** Nothing is sent yet. Throws `invalid_request` for an address or a key that cannot be one. */
  static async open(address: Address): Promise<HttpTransport> {
    const target = parseUrl(address.url);
    if (address.key !== undefined && !/^[\x21-\x7e]{1,512}$/.test(address.key))
      throw new RunnerError('invalid_request', 'the key of the service is not one: see that it was copied whole');
    if (address.as !== undefined && !/^[\x21-\x7e]{1,128}$/.test(address.as))
      throw new RunnerError('invalid_request', `${JSON.stringify(address.as)} is not the name of an identity`);
    const secure = target.base.protocol === 'https:' ? await import('node:https') : undefined;
    return new HttpTransport(address, target, secure);
  }

  async send(ask: Ask): Promise<Answer> {
    ask.signal?.throwIfAborted();
    const { body, silenceMs: quietMs = silenceMs } = ask;
    const options: RequestOptions = {
      ...this.#target(ask.path),
      method: ask.method,
      headers: {
        ...this.#headers,
        ...ask.headers,
        ...(body === undefined || isPieces(body) ? {} : { 'content-length': `${Buffer.byteLength(body)}` }),
      },
      // A kept connection may have been closed meanwhile: what cannot be asked twice gets one of its own.
      agent: ask.repeatable === true ? this.#agent : false,
      ...(ask.signal === undefined ? {} : { signal: ask.signal }),
    };
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const asked = (this.#secure?.request ?? httpRequest)(options);
      let connected = false;
      const connecting = setTimeout(() => asked.destroy(new Error(`no connection after ${connectMs} ms`)), connectMs);
      asked.on('socket', (socket) => {
        const onConnected = (): void => {
          connected = true;
          clearTimeout(connecting);
        };
        if (!socket.connecting) onConnected();
        else socket.once(this.#secure === undefined ? 'connect' : 'secureConnect', onConnected);
      });
      asked.setTimeout(quietMs, () => asked.destroy(new Error(`silent for ${quietMs} ms`)));
      asked.on('error', (cause) => {
        clearTimeout(connecting);
        if (ask.signal?.aborted === true) reject(reasonOf(ask.signal));
        else if (connected) reject(new LostConnection(messageOf(cause), { cause }));
        else reject(new NotConnected(messageOf(cause), { cause }));
      });
      asked.on('response', (answer) => {
        clearTimeout(connecting);
        resolve(answer);
      });
      if (isPieces(body)) pipeline(Readable.from(body), asked).catch((cause: unknown) => reject(failureOf(cause)));
      else asked.end(body);
    });
    this.#streams.add(response);
    response.once('close', () => this.#streams.delete(response));
    return {
      status: response.statusCode ?? 0,
      header: (name) => singleOf(response.headers[name]),
      body: bodyOf(response, ask.signal),
      discard: () => void response.destroy(),
    };
  }

  async connect(path: string, signal?: AbortSignal): Promise<Duplex> {
    const { openSocket } = await import('./web-socket.ts');
    const socketPath = this.#socketPath;
    const url =
      socketPath === undefined
        ? `${this.#base.protocol === 'https:' ? 'wss' : 'ws'}://${this.#base.host}${this.#base.pathname}${path.slice(1)}`
        : `ws+unix:${socketPath}:${path}`;
    return openSocket(url, { headers: this.#headers, signal, connectMs });
  }

  async close(): Promise<void> {
    for (const stream of this.#streams) stream.destroy();
    this.#agent.destroy();
  }

  #target(path: string): RequestOptions {
    if (this.#socketPath !== undefined) return { socketPath: this.#socketPath, path, host: 'localhost' };
    const { hostname, port, pathname, protocol } = this.#base;
    return {
      protocol,
      host: hostname.replace(/^\[|\]$/g, ''),
      ...(port === '' ? {} : { port }),
      path: `${pathname}${path.slice(1)}`,
    };
  }
}

interface Target {
  readonly base: URL;
  readonly socketPath: string | undefined;
}

function parseUrl(url: string): Target {
  const [, path] = /^unix:(?:\/\/)?(\/.+)$/.exec(url) ?? [];
  if (path !== undefined) return { base: new URL('http://localhost/'), socketPath: path };
  const wrong = (why: string): RunnerError =>
    new RunnerError(
      'invalid_request',
      `${JSON.stringify(url.slice(0, 200))} is no address of a service (${why}); write https://HOST/, http://127.0.0.1:PORT/ or unix:/PATH`,
    );
  const base = URL.canParse(url) ? new URL(url) : undefined;
  if (base === undefined) throw wrong('it is no URL');
  if (base.protocol !== 'http:' && base.protocol !== 'https:') throw wrong(`${base.protocol} is not spoken`);
  if (base.username !== '' || base.password !== '')
    throw wrong('a key goes into GLOVEBOX_KEY, or key, not into the URL');
  if (base.search !== '' || base.hash !== '') throw wrong('it has a query or a fragment');
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  return { base, socketPath: undefined };
}

/** What arrives, until the answer is whole; one that is cut off says so. */
async function* bodyOf(response: IncomingMessage, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array, void> {
  try {
    for await (const chunk of response) yield chunk as Buffer;
  } catch (cause) {
    if (signal?.aborted === true) throw reasonOf(signal);
    throw new LostConnection(`the answer was cut off: ${messageOf(cause)}`, { cause });
  }
  if (!response.complete) throw new LostConnection('the answer was cut off');
}

function isPieces(body: Ask['body']): body is AsyncIterable<Uint8Array> {
  return typeof body === 'object' && Symbol.asyncIterator in body;
}

/** Of pieces that could not be made, or sent: what the connection says comes before. */
function failureOf(cause: unknown): Error {
  if (cause instanceof RunnerError) return cause;
  return new LostConnection(messageOf(cause), { cause });
}

function singleOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

function reasonOf(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason : new Error(String(reason));
}
