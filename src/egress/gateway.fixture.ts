import type { Socket } from 'node:net';
import { RunnerError } from '../errors.ts';
import type { Gateway, GatewayEvents, InnerConnection } from '../sandbox/gateway/gateway.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import { connectedPair } from './sockets.fixture.ts';

/** A sandbox whose loopback is played by this process: what listens there, and who connects. */
export class PlayedSandbox {
  state: 'running' | 'lost' | 'closed' = 'running';
  readonly gateways: PlayedGateway[] = [];
  readonly unpacked: string[] = [];
  /** Ports that somebody else has. */
  readonly taken = new Set<number>();
  refusals = 0;

  /** As the fence knows it. */
  get asSandbox(): Pick<Sandbox, 'openGateway' | 'state' | 'files'> {
    const played = this as unknown as Pick<Sandbox, 'openGateway' | 'state' | 'files'>;
    return played;
  }

  readonly files = {
    read: () => Promise.resolve({ bytes: Buffer.from('IMAGE\n') }),
    unpack: (root: string, items: Iterable<{ path: string; content?: Uint8Array }>) => {
      for (const { path, content } of items)
        this.unpacked.push(`${root}/${path} ${Buffer.from(content ?? '').toString()}`);
      return Promise.resolve();
    },
  };

  openGateway(events: GatewayEvents): Promise<Gateway> {
    if (this.refusals-- > 0) return Promise.reject(new RunnerError('sandbox_lost', 'not now'));
    const gateway = new PlayedGateway(events, this.taken);
    this.gateways.push(gateway);
    return Promise.resolve(gateway as unknown as Gateway);
  }

  get gateway(): PlayedGateway {
    const last = this.gateways.at(-1);
    if (last === undefined) throw new Error('no gateway was opened');
    return last;
  }
}

export class PlayedGateway {
  open = true;
  readonly listeners = new Map<number, string>();
  readonly #events: GatewayEvents;
  readonly #taken: ReadonlySet<number>;
  readonly #answers = new Map<number, (bytes: Buffer) => void>();
  readonly #inners = new Set<Socket>();
  #last = 0;

  constructor(events: GatewayEvents, taken: ReadonlySet<number>) {
    this.#events = events;
    this.#taken = taken;
  }

  listen(kind: string, address: string, port: number): Promise<number> {
    if (this.#taken.has(port)) return Promise.reject(Object.assign(new Error('EADDRINUSE'), { code: 'EADDRINUSE' }));
    this.#last += 1;
    this.listeners.set(this.#last, `${kind} ${address}:${port}`);
    return Promise.resolve(this.#last);
  }

  unlisten(listener: number): void {
    this.listeners.delete(listener);
  }

  answer(_listener: number, peer: { port: number }, bytes: Buffer): void {
    this.#answers.get(peer.port)?.(bytes);
  }

  close(): Promise<void> {
    this.open = false;
    for (const inner of this.#inners) inner.resetAndDestroy();
    return Promise.resolve();
  }

  /** As when its process, or the stream, is gone. */
  lose(): void {
    void this.close();
    this.#events.lost(new RunnerError('sandbox_lost', 'the gateway is gone'));
  }

  /** What the resolver answers to a question. */
  async ask(message: Buffer): Promise<Buffer> {
    const port = 1024 + this.#answers.size;
    const listener = this.#find('udp 127.0.0.1:53');
    return new Promise((resolve) => {
      this.#answers.set(port, resolve);
      this.#events.datagram(listener, message, { address: '127.0.0.1', port });
    });
  }

  /** A program inside that has connected to `address:port`; its end of the connection. */
  async connect(to: string): Promise<Socket> {
    const { inner, client } = await connectedPair();
    this.#inners.add(inner);
    const reset = (): void => void inner.resetAndDestroy();
    const listener = this.#find(`tcp ${to}`);
    this.#events.connection(Object.assign(inner, { reset, listener }) as unknown as InnerConnection, listener);
    inner.read(0); // a socket that was accepted paused reads nothing until it is asked
    return client;
  }

  #find(wanted: string): number {
    for (const [number, what] of this.listeners) if (what === wanted) return number;
    throw new Error(`nobody listens on ${wanted}, only on ${[...this.listeners.values()].join(', ')}`);
  }
}
