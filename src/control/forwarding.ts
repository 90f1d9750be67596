import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { messageOf, RunnerError } from '../errors.ts';
import { relay } from './relay.ts';

const connectionsMax = 128;

export interface ForwardingOptions {
  /** The port inside. */
  readonly port: number;
  /** The port here; 0 takes a free one. Default: the same as inside. */
  readonly hostPort?: number;
  readonly connect: (port: number) => Promise<Duplex>;
  /** Of a connection that could not be made inside; it was closed. */
  readonly onRefused?: (error: unknown) => void;
}

/** A port inside a sandbox, on this machine's loopback and nowhere else. */
export class Forwarding {
  readonly hostPort: number;
  readonly #servers: readonly Server[];
  readonly #open: ReadonlySet<Duplex>;

  private constructor(servers: readonly Server[], open: ReadonlySet<Duplex>, hostPort: number) {
    this.#servers = servers;
    this.#open = open;
    this.hostPort = hostPort;
  }

  /** Listens on 127.0.0.1, and on ::1 where that is there and free. */
  static async open({ port, hostPort = port, connect, onRefused }: ForwardingOptions): Promise<Forwarding> {
    const open = new Set<Duplex>();
    const onConnection = (outer: Socket): void => {
      outer.on('error', () => outer.destroy());
      if (open.size >= connectionsMax * 2) return void outer.destroy();
      keep(open, outer);
      void carry(outer, port, connect, open).catch((error: unknown) => {
        outer.destroy();
        onRefused?.(error);
      });
    };
    const first = await listen('127.0.0.1', hostPort, onConnection);
    const taken = (first.address() as AddressInfo).port;
    const second = await listen('::1', taken, onConnection).catch(() => undefined);
    return new Forwarding(second === undefined ? [first] : [first, second], open, taken);
  }

  get url(): string {
    return `http://127.0.0.1:${this.hostPort}/`;
  }

  /** Listens no more and cuts what is open. */
  async close(): Promise<void> {
    const closed = this.#servers.map((server) => once(server, 'close'));
    for (const server of this.#servers) server.close();
    for (const connection of this.#open) connection.destroy();
    await Promise.all(closed);
  }
}

async function carry(
  outer: Socket,
  port: number,
  connect: ForwardingOptions['connect'],
  open: Set<Duplex>,
): Promise<void> {
  const inner = await connect(port);
  inner.on('error', () => inner.destroy());
  keep(open, inner);
  if (outer.destroyed) inner.destroy();
  else await relay(outer, inner);
}

function keep(open: Set<Duplex>, connection: Duplex): void {
  open.add(connection);
  connection.once('close', () => open.delete(connection));
}

async function listen(address: string, port: number, onConnection: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, onConnection);
  try {
    server.listen({ host: address, port, exclusive: true });
    await once(server, 'listening');
    server.on('error', () => undefined); // of an accept that fails: one client less, and no end of the runner
    return server;
  } catch (cause) {
    const message = `cannot listen on port ${port} of ${address}: ${messageOf(cause)}; name another one, or 0 for a free one`;
    throw new RunnerError('invalid_request', message, { cause });
  }
}
