import { codeOf } from '../outside/connect.ts';

/** What is needed of the gateway. */
export interface ListenerGateway {
  /** Rejects with an error whose `code` is that of the kernel inside (EADDRINUSE matters). */
  listen(kind: 'tcp', address: string, port: number): Promise<number>;
  unlisten(listener: number): void;
}

export interface NameListenersOptions {
  /** At once, for all names together; default 56 of the gateway's 64. */
  readonly listenersMax?: number;
  /** Without a resolution or a connection; default 5 minutes. */
  readonly idleMs?: number;
  /** So long after its resolution a name is not closed for the sake of another; default 30 s. */
  readonly graceMs?: number;
  /** The first address to give: those before it may still mean somebody else to a program inside. Default 0. */
  readonly firstAddress?: number;
}

/** A connection to a listener, and whom it means. `release` when it is over. */
export interface Held {
  readonly host: string;
  readonly port: number;
  readonly release: () => void;
}

interface Entry {
  readonly host: string;
  address: string;
  /** port -> listener */
  readonly listeners: Map<number, number>;
  connections: number;
  usedMs: number;
  opening: Promise<string> | undefined;
}

/** Names that are remembered with their address while nothing listens for them. */
const rememberedMax = 4_096;
const addressesTried = 4;
const sweepMs = 15_000;

/**
 * A synthetic address for each name, and listeners there. Promises:
 *  - a name keeps its address while anything listens for it, and after that as long as it is remembered;
 *  - listeners are open when `ensure` resolves; they close once nobody has used them for `idleMs`, and never under a connection;
 *  - there are never more than `listenersMax`.
 */
export class NameListeners {
  readonly #gateway: ListenerGateway;
  readonly #options: Required<NameListenersOptions>;
  readonly #entries = new Map<string, Entry>();
  readonly #byListener = new Map<number, { entry: Entry; port: number }>();
  /** Closed, but a connection may still be on its way; told apart from now on until the sweep after the next. */
  #closed: number[] = [];
  #open = 0;
  #ended = false;
  #nextAddress: number;
  readonly #sweeper: NodeJS.Timeout;

  constructor(gateway: ListenerGateway, options: NameListenersOptions = {}) {
    this.#gateway = gateway;
    this.#options = { listenersMax: 56, idleMs: 300_000, graceMs: 30_000, firstAddress: 0, ...options };
    this.#nextAddress = this.#options.firstAddress;
    this.#sweeper = setInterval(() => this.#sweep(), Math.min(sweepMs, this.#options.idleMs / 2)).unref();
  }

  /** The name's address, with listeners on those of its ports that could be had; rejects when that is none. */
  async ensure(host: string, ports: readonly number[]): Promise<string> {
    const entry = this.#entryOf(host);
    entry.usedMs = performance.now();
    if (ports.every((port) => entry.listeners.has(port))) return entry.address;
    entry.opening ??= this.#openAll(entry, ports).finally(() => {
      entry.opening = undefined;
    });
    return await entry.opening;
  }

  /** `undefined`: nobody's listener; whatever came by it is to be reset. */
  hold(listener: number): Held | undefined {
    const found = this.#byListener.get(listener);
    if (found === undefined) return undefined;
    const { entry, port } = found;
    entry.connections++;
    let held = true;
    const release = (): void => {
      if (!held) return;
      held = false;
      entry.connections--;
      entry.usedMs = performance.now();
    };
    return { host: entry.host, port, release };
  }

  /** No address from this one on was ever given. */
  get nextAddress(): number {
    return this.#nextAddress;
  }

  nameOf(address: string): string | undefined {
    for (const entry of this.#entries.values()) {
      if (entry.address === address) return entry.host;
    }
    return undefined;
  }

  close(): void {
    this.#ended = true;
    clearInterval(this.#sweeper);
    for (const entry of this.#entries.values()) this.#closeAll(entry);
    this.#entries.clear();
    this.#byListener.clear();
  }

  #entryOf(host: string): Entry {
    const known = this.#entries.get(host);
    if (known !== undefined) return known;
    if (this.#entries.size >= rememberedMax) this.#forgetOne();
    const address = this.#freshAddress();
    const entry: Entry = { host, address, listeners: new Map(), connections: 0, usedMs: 0, opening: undefined };
    this.#entries.set(host, entry);
    return entry;
  }

  /** A tool may have bound one of the addresses; another one is tried then, as long as nobody has been told the first. */
  async #openAll(entry: Entry, ports: readonly number[]): Promise<string> {
    let failure: unknown;
    for (let tries = 1; tries <= addressesTried; tries++) {
      const settled = entry.listeners.size > 0;
      failure = await this.#openMissing(entry, ports);
      if (failure === undefined || codeOf(failure) !== 'EADDRINUSE') break;
      if (settled || entry.connections > 0 || tries === addressesTried) break;
      this.#closeAll(entry);
      entry.address = this.#freshAddress();
    }
    if (entry.listeners.size === 0) throw failure;
    return entry.address;
  }

  /** Why not all of them are open; `undefined` when they are. */
  async #openMissing(entry: Entry, ports: readonly number[]): Promise<unknown> {
    const missing = [...new Set(ports)].filter((port) => !entry.listeners.has(port));
    const room = this.#makeRoom(missing.length);
    const opened = missing.slice(0, room);
    this.#open += opened.length;
    const results = await Promise.allSettled(opened.map((port) => this.#openOne(entry, port)));
    const failed = results.filter((result) => result.status === 'rejected');
    this.#open -= failed.length;
    if (failed.length > 0) return failed[0]?.reason;
    return room < missing.length ? new Error('too many names are listened for at once') : undefined;
  }

  async #openOne(entry: Entry, port: number): Promise<void> {
    const listener = await this.#gateway.listen('tcp', entry.address, port);
    if (this.#ended) return this.#gateway.unlisten(listener);
    entry.listeners.set(port, listener);
    this.#byListener.set(listener, { entry, port });
  }

  /** How many of `wanted` may be opened; closes what was not used for longest, and not just now. */
  #makeRoom(wanted: number): number {
    const idle = [...this.#entries.values()]
      .filter((entry) => entry.listeners.size > 0 && this.#idleFor(entry) >= this.#options.graceMs)
      .sort((a, b) => a.usedMs - b.usedMs);
    while (this.#open + wanted > this.#options.listenersMax) {
      const oldest = idle.shift();
      if (oldest === undefined) break;
      this.#closeAll(oldest);
    }
    return Math.max(0, Math.min(wanted, this.#options.listenersMax - this.#open));
  }

  /** Milliseconds; -1 while it is in use. */
  #idleFor(entry: Entry): number {
    return entry.connections > 0 || entry.opening !== undefined ? -1 : performance.now() - entry.usedMs;
  }

  #closeAll(entry: Entry): void {
    for (const listener of entry.listeners.values()) {
      this.#gateway.unlisten(listener);
      this.#closed.push(listener);
      this.#open--;
    }
    entry.listeners.clear();
  }

  #sweep(): void {
    for (const listener of this.#closed) this.#byListener.delete(listener);
    this.#closed = [];
    for (const entry of this.#entries.values()) {
      if (entry.listeners.size > 0 && this.#idleFor(entry) >= this.#options.idleMs) this.#closeAll(entry);
    }
  }

  #forgetOne(): void {
    for (const [host, entry] of this.#entries) {
      if (entry.listeners.size > 0 || this.#idleFor(entry) < this.#options.graceMs) continue;
      this.#entries.delete(host);
      return;
    }
    throw new Error('too many names are remembered at once');
  }

  /** 127.64.0.1, 127.64.0.2 ... of 127.64.0.0/10, without those that end in 0 or 255. */
  #freshAddress(): string {
    const number = this.#nextAddress++;
    const high = Math.floor(number / 254) % (64 * 256);
    return `127.${64 + Math.floor(high / 256)}.${high % 256}.${(number % 254) + 1}`;
  }
}
