import { chmodSync, rmSync } from 'node:fs';
import { createServer, STATUS_CODES, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { z } from 'zod';
import { Deadline } from '../deadline.ts';
import { messageOf, RunnerError } from '../errors.ts';
import type { Controlled } from './controlled.ts';
import { failureOf, messageBytesMax, Narrow, portOf, Revoke } from './protocol.ts';
import { relay } from './relay.ts';
import { SocketPlace } from './socket-place.ts';

const connectionsMax = 512;
const answerMs = 30_000;
const requestMs = 10_000;

/**
 * The way in to an open run for its owner, in another process of the same machine. Promises:
 *  - only who may enter the run's directory (0700, ours) reaches it, and the socket itself is ours alone (0600);
 *  - it can take away from a run and look into it, never give it anything;
 *  - it is bounded in bytes, connections and time, and gone with the run.
 */
export class Door {
  readonly #place: SocketPlace;
  readonly #server: Server;
  readonly #waiting = new Set<ServerResponse>();
  readonly #tunnels = new Set<Duplex>();
  readonly #run: Controlled;
  #closing: Promise<void> | undefined;

  private constructor(place: SocketPlace, run: Controlled) {
    this.#place = place;
    this.#run = run;
    this.#server = createServer({
      maxHeaderSize: 8_192,
      headersTimeout: requestMs,
      requestTimeout: requestMs,
      keepAliveTimeout: 1_000,
    });
    this.#server.maxConnections = connectionsMax;
    this.#server.on('request', (request, response) => void this.#answer(request, response));
    this.#server.on('connect', (request, socket, head) => void this.#tunnel(request, socket, head));
    this.#server.on('clientError', (_, socket) => socket.destroy());
    this.#server.on('error', () => undefined); // of an accept that fails: who asked is not connected, and that is all
  }

  /** In the run's directory. */
  static async open(directory: string, run: Controlled): Promise<Door> {
    const place = SocketPlace.open(directory);
    try {
      rmSync(place.path, { force: true }); // of a runner that died
      const door = new Door(place, run);
      await new Promise<void>((resolve, reject) => {
        door.#server.once('error', reject);
        door.#server.listen(place.path, () => resolve(door.#server.off('error', reject) && undefined));
      });
      chmodSync(place.path, 0o600);
      return door;
    } catch (cause) {
      place.close();
      const message = `cannot listen in ${directory}: ${messageOf(cause)}; is its file system one that holds sockets?`;
      throw new RunnerError('data_dir_unusable', message, { cause });
    }
  }

  /** Tells those who wait for the end, and cuts what is left. May be called twice. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const response of this.#waiting) response.writeHead(204, { connection: 'close' }).end();
    for (const tunnel of this.#tunnels) tunnel.destroy();
    const lingering = setTimeout(() => this.#server.closeAllConnections(), 500);
    this.#server.closeIdleConnections();
    await closed;
    clearTimeout(lingering);
    this.#place.close();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => response.destroy());
    try {
      const run = this.#opened();
      const { method = '', url = '' } = request;
      switch (`${method} ${url}`) {
        case 'GET /state':
          return send(response, 200, run.state());
        case 'POST /narrow': {
          const { without } = await bodyOf(request, Narrow);
          return send(response, 200, await withinTime('narrow', run.narrowEgress(without)));
        }
        case 'POST /revoke': {
          const { credential } = await bodyOf(request, Revoke);
          return send(response, 200, await withinTime('revoke', run.revokeCredential(credential)));
        }
        case 'GET /end':
          this.#waiting.add(response);
          response.once('close', () => this.#waiting.delete(response));
          return;
        default:
          throw new RunnerError('invalid_request', `a run's door does not know ${method} ${url.slice(0, 100)}`);
      }
    } catch (error) {
      const { status, body } = failureOf(error);
      send(response, status, body);
    }
  }

  /** What comes after the head is the connection's. */
  async #tunnel(request: IncomingMessage, outer: Duplex, head: Buffer): Promise<void> {
    outer.on('error', () => outer.destroy());
    this.#tunnels.add(outer);
    outer.once('close', () => this.#tunnels.delete(outer));
    try {
      const port = portOf(request.url ?? '');
      if (port === undefined)
        throw new RunnerError('invalid_request', 'a tunnel leads to 127.0.0.1 and a port from 1 to 65535');
      const inner = await withinTime(`port ${port} inside`, this.#opened().forward(port));
      if (outer.destroyed) return void inner.destroy();
      outer.write('HTTP/1.1 200 Connected\r\n\r\n');
      if (head.length > 0) outer.unshift(head);
      await relay(outer, inner);
    } catch (error) {
      const { status, body } = failureOf(error);
      const text = JSON.stringify(body);
      outer.end(
        `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\nContent-Type: application/json\r\n` +
          `Content-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`,
      );
    }
  }

  #opened(): Controlled {
    if (this.#closing !== undefined) throw new RunnerError('run_not_open', 'the run is being closed');
    return this.#run;
  }
}

function withinTime<T>(what: string, work: Promise<T>): Promise<T> {
  return Deadline.run(answerMs, what, () => work, 'engine_timeout');
}

function send(response: ServerResponse, status: number, body: unknown): void {
  if (response.destroyed) return;
  const text = JSON.stringify(body);
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
  response.writeHead(status, headers).end(text);
}

async function bodyOf<T>(request: IncomingMessage, schema: z.ZodType<T>): Promise<T> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > messageBytesMax)
      throw new RunnerError('limit_exceeded', `a request to a run's door may have ${messageBytesMax} bytes`);
    pieces.push(piece);
  }
  let value: unknown;
  try {
    value = JSON.parse(Buffer.concat(pieces).toString('utf8'));
  } catch (cause) {
    throw new RunnerError('invalid_request', `the request is not JSON: ${messageOf(cause)}`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const what = parsed.error.issues
    .map(({ path, message }) => `${path.join('.') || 'the request'}: ${message}`)
    .join('; ');
  throw new RunnerError('invalid_request', what.slice(0, 1_000));
}
