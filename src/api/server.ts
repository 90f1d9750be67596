import { once } from 'node:events';
import { chmod, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { getRequestListener } from '@hono/node-server';
import { messageOf, RunnerError } from '../errors.ts';
import type { App, Arrival } from './app.ts';
import { problemResponse, refuseConnect, refuseExpectation, refuseRaw, sendResponse } from './raw-response.ts';
import { Sockets } from './sockets.ts';

/** Where a service listens: a unix socket is its owner's alone, a port wants a key of everybody. */
export type ListenOn =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

export interface ServerLimits {
  readonly headerBytes: number;
  /** For all headers to arrive. */
  readonly headersMs: number;
  /** For the whole request to arrive. */
  readonly requestMs: number;
  /** Of a connection on which nothing is asked. */
  readonly idleMs: number;
  /** More are closed at once. */
  readonly connectionsMax: number;
}

const standardServerLimits: ServerLimits = {
  headerBytes: 16_384,
  headersMs: 10_000,
  requestMs: 120_000,
  idleMs: 75_000,
  connectionsMax: 2_048,
};

type FetchCallback = Parameters<typeof getRequestListener>[0];

const socketPathMax = 107;
const dotSegment = /(^|\/)(\.|%2e){1,2}(\/|$)|\\|%5c|%00/i;

/** The listeners of a service: HTTP and WebSocket on each. */
export class ApiServer {
  readonly #app: App;
  readonly #limits: ServerLimits;
  readonly #sockets = new Sockets();
  readonly #servers: { readonly server: Server; readonly where: ListenOn }[] = [];

  constructor(app: App, limits: ServerLimits = standardServerLimits) {
    this.#app = app;
    this.#limits = limits;
  }

  /** Returns where it listens now. Throws `invalid_config`. */
  async listen(where: ListenOn): Promise<ListenOn> {
    const server = this.#make(where);
    try {
      if (where.kind === 'tcp') {
        server.listen({ host: where.host, port: where.port, exclusive: true });
        await once(server, 'listening');
        const { port } = server.address() as AddressInfo;
        const bound = { ...where, port };
        this.#servers.push({ server, where: bound });
        return bound;
      }
      if (Buffer.byteLength(where.path) > socketPathMax)
        throw new Error(`a path of a socket has at most ${socketPathMax} bytes; take a shorter data directory`);
      await rm(where.path, { force: true }); // of a service that died: whoever listens holds the data directory's lock
      server.listen({ path: where.path });
      await once(server, 'listening');
      await chmod(where.path, 0o600);
      this.#servers.push({ server, where });
      return where;
    } catch (cause) {
      const name = where.kind === 'unix' ? where.path : `${where.host}:${where.port}`;
      throw new RunnerError('invalid_config', `cannot listen on ${name}: ${messageOf(cause)}`, { cause });
    }
  }

  /** Takes no new connection, ends idle ones; after `deadlineMs` the others too. Twice is fine. */
  async close(deadlineMs: number): Promise<void> {
    const closed = this.#servers.map(async ({ server, where }) => {
      const done = server.listening ? once(server, 'close') : undefined;
      server.close();
      server.closeIdleConnections();
      await done;
      if (where.kind === 'unix') await rm(where.path, { force: true });
    });
    this.#sockets.close();
    const cut = setTimeout(() => {
      for (const { server } of this.#servers) server.closeAllConnections();
    }, deadlineMs);
    await Promise.all(closed);
    clearTimeout(cut);
  }

  #make(where: ListenOn): Server {
    const isOwner = where.kind === 'unix';
    const { headerBytes, headersMs, requestMs, idleMs, connectionsMax } = this.#limits;
    const answer: FetchCallback = (request, env) => {
      const { incoming, outgoing } = env as { incoming: IncomingMessage; outgoing: { destroy(): unknown } };
      return this.#app.fetch(request, { isOwner, outgoing, isOdd: isOdd(incoming.url ?? '') });
    };
    const options = {
      maxHeaderSize: headerBytes,
      headersTimeout: headersMs,
      requestTimeout: requestMs,
      keepAliveTimeout: idleMs,
      connectionsCheckingInterval: Math.min(1_000, headersMs),
      requireHostHeader: false, // is refused with the host that cannot be, as a problem
      noDelay: true,
    };
    // What it refuses by itself is a target or a host that is no part of a URL.
    const refuse = (): Response =>
      problemResponse('invalid_request', 'the target of the request, or its host, cannot be');
    const listener = getRequestListener(answer, { errorHandler: refuse });
    const server = createServer(options, (incoming, outgoing) => void listener(incoming, outgoing));
    server.maxConnections = connectionsMax;
    server.on('clientError', refuseRaw);
    server.on('checkExpectation', (request: IncomingMessage) => refuseExpectation(request.socket));
    server.on('connect', (_: IncomingMessage, socket: Duplex) => refuseConnect(socket));
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on('error', () => socket.destroy());
      void this.#upgrade(request, socket, head, { isOwner, outgoing: socket, isOdd: isOdd(request.url ?? '') });
    });
    server.on('error', () => undefined); // of an accept that fails: one client less
    return server;
  }

  async #upgrade(incoming: IncomingMessage, socket: Duplex, head: Buffer, arrival: Arrival): Promise<void> {
    try {
      const headers = new Headers();
      for (const [name, value] of Object.entries(incoming.headers))
        if (typeof value === 'string') headers.set(name, value);
      const leaving = new AbortController();
      socket.once('close', () => leaving.abort());
      const request = new Request(new URL(incoming.url ?? '/', 'http://service'), { headers, signal: leaving.signal });
      const found = await this.#app.upgrade(request, arrival);
      if (found instanceof Response) await sendResponse(socket, found);
      else this.#sockets.take(incoming, socket, head, found);
    } catch {
      socket.destroy();
    }
  }
}

/** The URL parser would make another path of it, without a word. */
function isOdd(target: string): boolean {
  const [path = ''] = target.split('?', 1);
  return dotSegment.test(path);
}
