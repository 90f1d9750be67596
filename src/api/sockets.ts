import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer, type WebSocket } from 'ws';

const frameBytesMax = 1_048_576;
const pingMs = 15_000;
/** Who asks for answers and takes none is not answered any more. */
const unsentMax = 1_048_576;

interface Accepted {
  readonly accept: (socket: WebSocket) => void;
  /** Whether who opened it may still have it. */
  readonly isAllowed: () => boolean;
  readonly end: () => void;
}

/** WebSockets that are open. Who does not answer a ping before the next one, or whose key is no more, is cut off. */
export class Sockets {
  readonly #server = new WebSocketServer({
    noServer: true,
    maxPayload: frameBytesMax,
    perMessageDeflate: false,
    clientTracking: false,
    autoPong: false,
  });
  readonly #open = new Set<WebSocket>();

  take(request: IncomingMessage, socket: Duplex, head: Buffer, { accept, isAllowed, end }: Accepted): void {
    if (socket.destroyed) return end();
    socket.once('close', end);
    this.#server.handleUpgrade(request, socket, head, (opened) => {
      this.#watch(opened, isAllowed);
      accept(opened);
    });
  }

  close(): void {
    for (const socket of this.#open) {
      socket.close(1001, 'the service stops');
      setTimeout(() => socket.terminate(), 1_000).unref();
    }
  }

  #watch(socket: WebSocket, isAllowed: () => boolean): void {
    this.#open.add(socket);
    let answered = true;
    socket.on('pong', () => {
      answered = true;
    });
    socket.on('ping', (data) => {
      if (socket.bufferedAmount > unsentMax) socket.terminate();
      else socket.pong(data);
    });
    socket.on('error', () => socket.terminate());
    const timer = setInterval(() => {
      if (!answered || !isAllowed()) return socket.terminate();
      answered = false;
      socket.ping();
    }, pingMs);
    socket.once('close', () => {
      clearInterval(timer);
      this.#open.delete(socket);
    });
  }
}
