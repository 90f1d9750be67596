import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** Both ends of one TCP connection over loopback: `inner` as the gateway would hand it over, `client` as a tool has it. */
export async function connectedPair(): Promise<{ inner: Socket; client: Socket }> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  const port = await listening(server);
  const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  client.on('error', () => undefined);
  const [inner] = (await once(server, 'connection')) as [Socket];
  if (client.connecting) await once(client, 'connect');
  server.close();
  return { inner, client };
}

/** The port that it listens on now. */
export async function listening(server: Server, host = '127.0.0.1'): Promise<number> {
  server.listen(0, host);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** A server that keeps what arrives, and who connected. */
export class Sink {
  readonly sockets: Socket[] = [];
  readonly server = createServer({ allowHalfOpen: true }, (socket) => {
    this.sockets.push(socket);
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      this.received = Buffer.concat([this.received, chunk]);
    });
  });
  received: Buffer = Buffer.alloc(0);
  port = 0;

  async open(host = '127.0.0.1'): Promise<this> {
    this.port = await listening(this.server, host);
    return this;
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
  }
}

/** A port of loopback where nobody listens. */
export async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listening(server);
  server.close();
  await once(server, 'close');
  return port;
}

/** Waits until something holds, at most 5 s. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  const endMs = performance.now() + 5_000;
  while (!holds()) {
    if (performance.now() > endMs) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Resolves when it is gone, however that came about. */
export async function closed(socket: Socket): Promise<void> {
  if (!socket.closed)
    await new Promise<void>((resolve) => socket.on('error', () => undefined).once('close', () => resolve()));
}
