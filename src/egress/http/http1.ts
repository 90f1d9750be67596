import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Exchange } from './exchange.ts';
import type { HttpLimits } from './http-deps.ts';
import { Http1Exchange } from './http1-exchange.ts';

/** What a connection in HTTP/1 is for. None of these rejects. */
export interface Http1Door {
  /** One request; the next of the connection waits until it is over. */
  carry(exchange: Exchange): Promise<void>;
  /** An upgrade to WebSocket: the socket is the door's from here on, and after it is closed. `head`: what came after its head. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>;
  connect(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>;
  /** Something that is no request. `reason` names what is wrong with it; the connection is closed after it. */
  malformed(reason: string, status: number): Promise<Buffer>;
}

/**
 * Serves HTTP/1 on one connection until it is closed. Promises:
 *  - requests are carried one after the other, in their order, however many arrive at once;
 *  - what two readers could frame in two ways never becomes a request: Node's parser is strict here, and whatever it
 *    understood is written anew for the upstream;
 *  - a head is whole in time and within its bounds, or the connection is closed;
 *  - who has asked and says no more is answered (`nc -N`); while nothing of the answer can be sent it is waited so long, since who
 *    went away has said no more than that.
 */
export function serveHttp1(socket: Duplex, door: Http1Door, limits: HttpLimits): Promise<void> {
  return socket.destroyed ? Promise.resolve() : new Http1Connection(socket, door, limits).closed;
}

class Http1Connection {
  readonly closed: Promise<void>;
  readonly #socket: Duplex;
  readonly #door: Http1Door;
  readonly #limits: HttpLimits;
  readonly #server: Server;
  /** Of others than Node's parser. */
  readonly #listeners: readonly (readonly [event: string, listeners: readonly unknown[]])[];
  #turn: Promise<void> = Promise.resolve();
  #waiting = 0;
  #clock: NodeJS.Timeout | undefined;
  /** The head that is waited for. It is looked at now and then, so that no request costs a timer. */
  #awaited: AwaitedHead | undefined;
  #nextLook: NodeJS.Timeout | undefined;
  #malformed = false;
  #ended = false;

  constructor(socket: Duplex, door: Http1Door, limits: HttpLimits) {
    this.#socket = socket;
    this.#door = door;
    this.#limits = limits;
    this.#server = createServer({
      maxHeaderSize: limits.headBytes,
      insecureHTTPParser: false,
      keepAliveTimeout: 0,
      requireHostHeader: false,
    });
    Object.assign(this.#server, { httpAllowHalfOpen: true }); // Node's own option, which its types leave out
    // With a bound, headers over it would be dropped in silence; they are counted in `#take`.
    this.#server.maxHeadersCount = 0;
    this.#server.on('request', (request, response) => this.#take(request, response));
    this.#server.on('checkContinue', (request, response) => this.#take(request, response));
    this.#server.on('checkExpectation', (request, response) => this.#take(request, response));
    this.#server.on('upgrade', (request, upgraded, head) => this.#upgrade(request, upgraded, head));
    this.#server.on('connect', (request, tunnel, head) => this.#connect(request, tunnel, head));
    this.#server.on('clientError', (error) => this.#refuse(error));
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        clearTimeout(this.#clock);
        clearTimeout(this.#nextLook);
        resolve();
      });
    });
    socket.once('end', () => this.#hearNoMore());
    // Also while no parser listens.
    socket.on('error', () => undefined);
    this.#listeners = ['pause', 'resume'].map((event) => [event, socket.rawListeners(event)] as const);
    this.#await();
    this.#server.emit('connection', socket);
  }

  #take(request: IncomingMessage, response: ServerResponse): void {
    this.#stopClocks();
    if (this.#malformed) return;
    if (request.httpVersionMajor !== 1) return void this.#fail('HTTP/1.1 is spoken here', 505);
    if (request.rawHeaders.length > 2 * this.#limits.headersMax) {
      return void this.#fail(`the request has more than ${this.#limits.headersMax} headers`, 431);
    }
    // Whatever else it says, where the body ends is not known.
    if (hasOtherCoding(request)) return void this.#fail('the one transfer coding is chunked', 400);
    if (this.#waiting >= this.#limits.waitingMax) return void this.#socket.destroy();
    const exchange = new Http1Exchange(request, response, this.#limits.discardBytes);
    this.#inTurn(() => this.#door.carry(exchange));
  }

  #inTurn(work: () => Promise<void>): void {
    this.#waiting += 1;
    this.#turn = this.#turn.then(async () => {
      try {
        if (!this.#socket.destroyed) await work();
      } catch {
        this.#socket.destroy();
      }
      this.#waiting -= 1;
      if (this.#waiting === 0 && (this.#socket.writable || this.#ended)) this.#await();
    });
  }

  #hearNoMore(): void {
    this.#ended = true;
    if (this.#waiting > 0 && !this.#socket.destroyed) this.#watch(countOf(this.#socket, 'bytesWritten'));
  }

  /** For as long as something of an answer is sent in each such time. */
  #watch(before: number): void {
    clearTimeout(this.#clock);
    this.#clock = setTimeout(() => {
      const sent = countOf(this.#socket, 'bytesWritten');
      if (sent === before) this.#socket.destroy();
      else this.#watch(sent);
    }, this.#limits.halfClosedMs);
  }

  /** From here on a whole head has to come: it may begin late, but not go on for ever, however its bytes are spread. */
  #await(): void {
    this.#stopClocks();
    if (this.#socket.destroyed) return;
    this.#awaited = { readBytes: countOf(this.#socket, 'bytesRead'), sinceMs: performance.now(), begunMs: undefined };
    this.#nextLook ??= this.#lookIn(this.#limits.idleMs);
  }

  /** Or earlier: a head that has begun is looked at four times. */
  #lookIn(ms: number): NodeJS.Timeout {
    const look = (): void => {
      this.#nextLook = undefined;
      if (this.#awaited !== undefined) this.#look(this.#awaited);
    };
    return setTimeout(look, Math.ceil(Math.min(this.#limits.headMs / 4, ms)));
  }

  #look(awaited: AwaitedHead): void {
    const { headMs, idleMs } = this.#limits;
    const nowMs = performance.now();
    if (countOf(this.#socket, 'bytesRead') > awaited.readBytes) awaited.begunMs ??= nowMs;
    const { begunMs } = awaited;
    const idleLeftMs = awaited.sinceMs + idleMs - nowMs;
    if (begunMs === undefined && idleLeftMs <= 0) return void this.#socket.destroy();
    if (begunMs !== undefined && nowMs - begunMs >= headMs)
      return void this.#fail(`the head of a request was not whole ${headMs} ms after it had begun`, 408);
    this.#nextLook = this.#lookIn(begunMs === undefined ? idleLeftMs : headMs);
  }

  #stopClocks(): void {
    this.#awaited = undefined;
    clearTimeout(this.#clock);
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (this.#malformed) return;
    this.#stopClocks();
    // Answers of earlier requests would get between the bytes of the new protocol.
    if (this.#waiting > 0 || request.rawHeaders.length > 2 * this.#limits.headersMax) return void socket.destroy();
    if (/^websocket$/i.test(request.headers.upgrade ?? '')) {
      return this.#inTurn(() => this.#door.upgrade(request, socket, head).then(() => this.#close()));
    }
    // To be ignored (RFC 9110, 7.8), as a request without it would be: Java offers HTTP/2 in this way.
    for (const [event, own] of this.#listeners)
      for (const left of socket.rawListeners(event)) if (!own.includes(left)) socket.off(event, left as () => void); // Node would leave one behind each time
    socket.unshift(Buffer.concat([withoutUpgrade(request), head]));
    this.#await();
    this.#server.emit('connection', socket);
  }

  #connect(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (this.#malformed) return;
    this.#stopClocks();
    if (this.#waiting > 0) return void socket.destroy();
    this.#waiting += 1;
    void this.#door.connect(request, socket, head).then(
      () => this.#close(),
      () => socket.destroy(),
    );
  }

  #refuse(error: NodeJS.ErrnoException): void {
    if (error.code === undefined || !error.code.startsWith('HPE_')) return void this.#socket.destroy();
    const tooLong = error.code === 'HPE_HEADER_OVERFLOW';
    void this.#fail(
      tooLong ? `the head is longer than ${this.#limits.headBytes} bytes` : `not a request in HTTP/1.1 (${error.code})`,
      tooLong ? 431 : 400,
    );
  }

  /** Nothing that comes after this on the connection can be trusted to begin where it seems to. */
  async #fail(reason: string, status: number): Promise<void> {
    if (this.#malformed) return;
    this.#malformed = true;
    this.#stopClocks();
    const answer = await this.#door.malformed(reason, status);
    if (this.#waiting > 0 || this.#socket.destroyed) return void this.#socket.destroy();
    this.#socket.write(answer);
    this.#close();
  }

  /** What was written last arrives before it is over, if the client takes it soon, and does not say much more. */
  #close(): void {
    if (this.#socket.destroyed) return;
    this.#stopClocks();
    this.#socket.end();
    let leftBytes = this.#limits.discardBytes;
    this.#socket.on('data', (chunk: Buffer) => {
      leftBytes -= chunk.length;
      if (leftBytes < 0) this.#socket.destroy();
    });
    this.#socket.resume();
    this.#clock = setTimeout(() => this.#socket.destroy(), lingerMs);
  }
}

interface AwaitedHead {
  /** What had been read before it. */
  readonly readBytes: number;
  readonly sinceMs: number;
  /** Since when it is known to have begun. */
  begunMs: number | undefined;
}

const lingerMs = 2_000;

/** As sockets count. */
function countOf(socket: Duplex & { readonly [key in Counted]?: number }, what: Counted): number {
  return socket[what] ?? 0;
}

type Counted = 'bytesRead' | 'bytesWritten';

function hasOtherCoding({ rawHeaders }: IncomingMessage): boolean {
  let codings = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    if (rawHeaders[at]?.toLowerCase() !== 'transfer-encoding') continue;
    codings += 1;
    if (codings > 1 || rawHeaders[at + 1]?.toLowerCase() !== 'chunked') return true;
  }
  return false;
}

function withoutUpgrade(request: IncomingMessage): Buffer {
  const lines = [`${request.method ?? ''} ${request.url ?? ''} HTTP/${request.httpVersion}`];
  for (let at = 0; at + 1 < request.rawHeaders.length; at += 2) {
    const name = request.rawHeaders[at] ?? '';
    if (!/^(upgrade|connection|http2-settings)$/i.test(name))
      lines.push(`${name}: ${request.rawHeaders[at + 1] ?? ''}`);
  }
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
}
