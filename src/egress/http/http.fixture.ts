import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { Authority } from './authority.ts';
import { Checkpoint } from '../checkpoint/checkpoint.ts';
import type { Dialler, HttpDeps } from './http-deps.ts';
import { judgeOf, KeptRecord } from '../checkpoint/judge.fixture.ts';
import type { EffectiveEgressRule } from '../checkpoint/judge.ts';
import { Network } from '../outside/network.ts';

/** A listener as the gateway's would be: each connection reaches `serve` as a stream that is no socket. */
export async function listenerFor(serve: (inner: Duplex) => Promise<void>): Promise<Listener> {
  const served: Promise<void>[] = [];
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    served.push(serve(new InnerStandIn(socket)));
  });
  return { port: await listen(server), served, close: () => closeServer(server) };
}

export interface Listener {
  readonly port: number;
  /** One for each connection. */
  readonly served: readonly Promise<void>[];
  close(): Promise<void>;
}

/** A checkpoint over these rules, and what carries requests to servers of the test: `ports` says where each port is. */
export async function worldOf(
  rules: readonly EffectiveEgressRule[],
  ports: Readonly<Record<number, number>>,
): Promise<World> {
  const [authority, upstreamAuthority] = await Promise.all([Authority.create(), Authority.create()]);
  const record = new KeptRecord();
  const judge = { ...judgeOf(rules), address: () => ({ kind: 'allowed', named: true }) as const };
  const limits = { maxRecords: 10_000, maxNames: 10, maxUnlisted: 10, onExcess: 'deny' } as const;
  const checkpoint = new Checkpoint({ rules: judge, record, mode: 'enforce', limits });
  const network = new Network({ ca: [upstreamAuthority.pem], hosts: { 'allowed.test': ['127.0.0.1'] } });
  const dials: string[] = [];
  const dialler: Dialler = {
    dial: (wanted) => {
      dials.push(`${wanted.host}:${wanted.port}`);
      return network.dial({ ...wanted, port: ports[wanted.port] ?? wanted.port });
    },
    secure: (socket, host, alpn, options) => network.secure(socket, host, alpn, options),
  };
  return { authority, upstreamAuthority, record, checkpoint, dials, deps: { checkpoint, network: dialler, authority } };
}

export interface World {
  readonly authority: Authority;
  /** Of the servers of the test. */
  readonly upstreamAuthority: Authority;
  readonly record: KeptRecord;
  readonly checkpoint: Checkpoint;
  /** What was dialled, in order. */
  readonly dials: readonly string[];
  readonly deps: HttpDeps;
}

export async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

export async function closeServer(server: Server & { closeAllConnections?: () => void }): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections?.();
  await closed;
}

/** Writes bytes as they are, and resolves with all that comes back until the end, or until `enough`. */
export function raw(
  port: number,
  bytes: string | Buffer,
  enough: (text: string) => boolean = () => false,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1' });
    const chunks: Buffer[] = [];
    const done = (): void => {
      resolve(Buffer.concat(chunks).toString('latin1'));
      socket.destroy();
    };
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      if (enough(Buffer.concat(chunks).toString('latin1'))) done();
    });
    socket.once('end', done);
    socket.once('close', done);
    socket.on('error', (error: NodeJS.ErrnoException) =>
      /ECONNRESET|EPIPE/.test(error.code ?? '') ? done() : reject(error),
    );
    socket.write(bytes);
  });
}

/** As `InnerConnection`: half-open, `destroy()` after `end()` lets what was sent arrive, before it is a reset. */
class InnerStandIn extends Duplex {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    super({ allowHalfOpen: true });
    this.#socket = socket;
    this.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) socket.pause();
    });
    socket.once('end', () => this.push(null));
    socket.on('error', (error) => this.destroy(error));
    socket.once('close', () => this.destroy());
  }

  get bytesRead(): number {
    return this.#socket.bytesRead;
  }

  get bytesWritten(): number {
    return this.#socket.bytesWritten;
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, done);
  }

  override _final(done: () => void): void {
    this.#socket.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (error !== null || !this.writableFinished) this.#socket.resetAndDestroy();
    else this.#socket.destroySoon();
    done(error);
  }
}
