import { isIPv4 } from 'node:net';
import { Deadline } from '../../deadline.ts';
import { RunnerError } from '../../errors.ts';
import type { ExitRecord } from '../arrivals.ts';
import { CallWire, type CallEvents } from '../call-wire.ts';
import { SpecEncoder } from '../exec-spec.ts';
import { broken } from '../frames.ts';
import { Channel } from './gateway-channel.ts';
import { GatewayOutbox } from './gateway-outbox.ts';
import {
  connectionsMax,
  connectRecord,
  datagramMax,
  datagramRecord,
  GatewayParser,
  listenersMax,
  listenRecord,
  resetRecord,
  unlistenRecord,
  type GatewayReceiver,
  type Peer,
} from './gateway-records.ts';
import { Intake } from './intake.ts';
import type { InnerConnection } from './inner-connection.ts';
import type { Link } from '../link.ts';
import { errno, SocketError } from './socket-error.ts';
import { killCause, tags, verbs } from '../wire.ts';

export type { Peer } from './gateway-records.ts';
export { InnerConnection } from './inner-connection.ts';

/** What a gateway tells its owner. What these throw ends the connection or drops the datagram, and nothing else. */
export interface GatewayEvents {
  /** A program inside has connected to a listener. */
  connection(inner: InnerConnection, listener: number): void;
  datagram(listener: number, bytes: Buffer, peer: Peer): void;
  /** Once, unless it was closed: nothing passes any more, and every connection is destroyed already. */
  lost(reason: RunnerError): void;
}

const answerMs = 10_000;
const ackBytes = 65_536;
/** Datagrams may be lost: they are dropped while so many records wait for room. */
const waitingMax = 256;
const closeMs = 2_000;
const slackMs = 12_000;

/**
 * Listeners and connections on the loopback of one sandbox, seen from outside (docs/protocol.md, "The gateway"). Promises:
 *  - nothing it hears is believed: the first record that does not fit what was said before is a `protocol_error` of the sandbox;
 *    numbers are never used twice, credit holds in both directions, and everything that waits is bounded;
 *  - whatever ends it (the sandbox, its stream, the gateway itself), every connection is destroyed, then `lost` is told; it is
 *    never joined again: its owner opens another one;
 *  - a slow reader holds up its own connection and no other.
 */
export class Gateway {
  /** The process inside is gone, and its ports are free. Never rejects. */
  readonly gone: Promise<void>;
  readonly #link: Link;
  readonly #wire: CallWire;
  readonly #outbox: GatewayOutbox;
  readonly #owner: GatewayEvents;
  readonly #listeners = new Map<number, Listener>();
  readonly #connecting = new Map<number, Connecting>();
  readonly #channels = new Map<number, Channel>();
  #started = false;
  #lastListener = 0;
  #lastAccepted = 0;
  #lastMade = 0;
  #takenBytes = 0;
  #ackedBytes = 0;
  #exit: ExitRecord | undefined;
  #end: RunnerError | undefined;
  #endByMs = Infinity;
  #tellStarted: (error?: RunnerError) => void = () => undefined;
  #tellGone: () => void = () => undefined;

  private constructor(link: Link, number: number, owner: GatewayEvents) {
    this.#link = link;
    this.#owner = owner;
    this.#outbox = new GatewayOutbox(link, number);
    const { input } = this.#outbox;
    this.#wire = new CallWire(link, number, { stdin: false, aux: false, input }, this.#events);
    this.gone = new Promise((resolve) => {
      this.#tellGone = resolve;
    });
  }

  /** `Sandbox.openGateway` is how to get one. */
  static async open(link: Link, number: number, owner: GatewayEvents): Promise<Gateway> {
    const gateway = new Gateway(link, number, owner);
    const spec = new SpecEncoder().u8(tags.verb, verbs.gateway).u8(tags.stdin, 1);
    const started = new Promise<void>((resolve, reject) => {
      gateway.#tellStarted = (error) => (error === undefined ? resolve() : reject(error));
    });
    const begin = (): Promise<unknown> => Promise.all([started, gateway.#wire.spawn(spec.pieces())]);
    try {
      await Deadline.run(answerMs, 'start the gateway of a sandbox', begin, 'sandbox_lost');
      return gateway;
    } catch (error) {
      gateway.#give(asRunnerError(error));
      throw error;
    }
  }

  /** False once nothing passes any more. */
  get open(): boolean {
    return this.#end === undefined;
  }

  /** Of its call. */
  get number(): number {
    return this.#wire.number;
  }

  /** Its number. Rejects with a `SocketError` when the address cannot be had (EADDRINUSE, EADDRNOTAVAIL, ...). */
  async listen(kind: 'tcp' | 'udp', address: string, port: number): Promise<number> {
    const what = `listen on ${kind} ${address}:${port} inside the sandbox`;
    const at = checked(address, port, what);
    this.#usable(what);
    if (this.#listeners.size >= listenersMax)
      throw new RunnerError('limit_exceeded', `${what}: there are ${listenersMax} listeners already; close one first`);
    const number = ++this.#lastListener;
    const answered = new Promise<void>((answer, fail) => {
      this.#listeners.set(number, { kind, what, answer, fail });
    });
    this.#outbox.say(listenRecord(number, kind, at));
    try {
      await Deadline.run(answerMs, what, () => answered, 'sandbox_lost');
      return number;
    } catch (error) {
      this.#listeners.delete(number);
      if (error instanceof RunnerError) this.#give(error);
      throw error;
    }
  }

  /** What is connected stays so. */
  unlisten(listener: number): void {
    if (this.#listeners.delete(listener)) this.#outbox.say(unlistenRecord(listener));
  }

  /** A datagram to `peer` from a listener; dropped when there is no room, as UDP has it. */
  answer(listener: number, peer: Peer, bytes: Uint8Array): void {
    if (this.#listeners.get(listener)?.kind !== 'udp' || this.#outbox.waiting >= waitingMax) return;
    if (bytes.length <= datagramMax) this.#outbox.say(datagramRecord(listener, peer, bytes));
  }

  /** A connection to a program that listens inside. Rejects with a `SocketError` when nobody does. */
  async connect(address: string, port: number): Promise<InnerConnection> {
    const what = `connect to ${address}:${port} inside the sandbox`;
    const peer = checked(address, port, what);
    this.#usable(what);
    if (this.#connecting.size >= connectionsMax / 2)
      throw new RunnerError('limit_exceeded', `${what}: ${this.#connecting.size} others are being made; try again`);
    const number = (this.#lastMade += 2);
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<InnerConnection>((answer, fail) => {
        this.#connecting.set(number, { peer, what, answer, fail });
        this.#outbox.say(connectRecord(number, peer));
        timer = setTimeout(() => {
          this.#connecting.set(number, { peer, what, answer: (late) => late.reset(), fail });
          this.#outbox.say(resetRecord(number));
          fail(new SocketError(errno.timedOut, what));
        }, answerMs);
      });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Every connection is reset, every listener closed. May be called twice. */
  async close(): Promise<void> {
    if (this.#end === undefined) {
      this.#cut(new RunnerError('run_not_open', 'the gateway was closed'));
      this.#outbox.input.end();
      this.#endWithin(closeMs);
    }
    await this.gone;
  }

  readonly #receiver: GatewayReceiver = {
    listening: (number, code) => {
      const listener = this.#listeners.get(number);
      if (listener?.answer === undefined) throw broken(`an answer about listener ${number}, which nobody waits for`);
      const { kind, what, answer, fail } = listener;
      this.#listeners.set(number, { kind, what });
      if (code === errno.ok) answer();
      else fail?.(new SocketError(code, what));
    },
    connected: (number, code) => {
      const { peer, what, answer, fail } = known(this.#connecting.get(number), number);
      this.#connecting.delete(number);
      if (code !== errno.ok) return fail(new SocketError(code, what));
      const channel = this.#open(number, peer, 0);
      answer(channel.connection);
    },
    accepted: (number, listener, peer) => this.#accepted(number, listener, peer),
    data: (number, bytes) => known(this.#channels.get(number), number).data(bytes),
    ended: (number) => known(this.#channels.get(number), number).ended(),
    reset: (number) => known(this.#channels.get(number), number).wasReset(),
    granted: (number, bytes) => known(this.#channels.get(number), number).granted(bytes),
    forgotten: (number) => {
      known(this.#channels.get(number), number).forgotten();
      this.#channels.delete(number);
    },
    datagram: (number, peer, bytes) => {
      this.#intake.took('datagram');
      if (this.#isGone(number, 'udp')) return;
      try {
        this.#owner.datagram(number, bytes, peer);
      } catch {
        // Whoever should have answered it failed, so it has no answer.
      }
    },
  };
  readonly #intake = new Intake({
    parser: new GatewayParser(this.#receiver),
    taken: (bytes) => this.#taken(bytes),
    broken: (error) => this.#link.destroy(asRunnerError(error)),
  });

  readonly #events: CallEvents = {
    started: () => {
      this.#started = true;
      this.#tellStarted();
    },
    output: (stream, bytes) => {
      if (stream !== 'stdout') throw broken('a gateway that writes beside its records');
      if (this.#end === undefined) this.#intake.push(bytes);
      else this.#taken(bytes.length);
    },
    exited: (exit) => {
      this.#exit = exit;
    },
    ended: () => {
      this.#wire.release();
      this.#lose(new RunnerError('sandbox_lost', `the gateway ended: ${this.#exit?.kind} ${this.#exit?.code}`));
      this.#tellGone();
    },
    refused: (_reason, text) => {
      this.#lose(
        new RunnerError('too_many_calls', `the sandbox refused a gateway: ${JSON.stringify(text.slice(0, 200))}`),
      );
      this.#tellGone();
    },
    tick: (nowMs) => {
      for (const channel of this.#channels.values()) channel.tick(nowMs);
      if (nowMs > this.#endByMs + slackMs)
        this.#link.destroy(new RunnerError('sandbox_lost', 'the supervisor has not ended a gateway in time'));
      else if (nowMs > this.#endByMs) this.#wire.kill(0, killCause.cancelled);
    },
    disconnected: (reason) => {
      this.#lose(reason);
      this.#tellGone();
    },
  };

  #taken(bytes: number): void {
    this.#takenBytes += bytes;
    if (this.#takenBytes - this.#ackedBytes < ackBytes) return;
    this.#ackedBytes = this.#takenBytes;
    this.#wire.acknowledge(this.#takenBytes);
  }

  #accepted(number: number, listener: number, peer: Peer): void {
    this.#intake.took('connection');
    if (number % 2 === 0 || number <= this.#lastAccepted) throw broken(`a connection accepted as ${number}`);
    this.#lastAccepted = number;
    const unwanted = this.#isGone(listener, 'tcp');
    const { connection } = this.#open(number, peer, listener);
    if (unwanted) return connection.reset();
    try {
      this.#owner.connection(connection, listener);
    } catch (error) {
      connection.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #open(number: number, peer: Peer, listener: number): Channel {
    if (this.#channels.size >= connectionsMax) throw broken('more connections than a gateway may have');
    const channel = new Channel(this.#outbox, number, peer, listener);
    this.#channels.set(number, channel);
    return channel;
  }

  /** True for one that was closed while this was under way. */
  #isGone(listener: number, kind: 'tcp' | 'udp'): boolean {
    const found = this.#listeners.get(listener);
    if (found === undefined && listener > 0 && listener <= this.#lastListener) return true;
    if (found?.kind !== kind || found.answer !== undefined)
      throw broken(`something came to ${kind} listener ${listener}`);
    return false;
  }

  #usable(what: string): void {
    if (this.#end !== undefined)
      throw new RunnerError(this.#end.code, `${what}: ${this.#end.message}`, { cause: this.#end });
  }

  /** It is of no use any more, though the sandbox may be. */
  #give(reason: RunnerError): void {
    this.#lose(reason);
    this.#endWithin(0);
  }

  #endWithin(ms: number): void {
    this.#endByMs = performance.now() + ms;
    if (ms === 0) this.#wire.kill(0, killCause.cancelled);
  }

  #lose(reason: RunnerError): void {
    if (this.#end !== undefined) return;
    this.#cut(reason);
    if (!this.#started) return;
    try {
      this.#owner.lost(reason);
    } catch {
      // It has been told; whatever else ends with this link must be told too.
    }
  }

  #cut(reason: RunnerError): void {
    this.#end = reason;
    this.#intake.stop();
    this.#tellStarted(reason);
    for (const { fail } of [...this.#listeners.values(), ...this.#connecting.values()]) fail?.(reason);
    for (const channel of this.#channels.values()) channel.lose(reason);
    this.#channels.clear();
    this.#listeners.clear();
    this.#connecting.clear();
    this.#outbox.close();
  }
}

interface Listener {
  readonly kind: 'tcp' | 'udp';
  readonly what: string;
  /** Until it is known to listen. */
  readonly answer?: () => void;
  readonly fail?: (error: Error) => void;
}

interface Connecting {
  readonly peer: Peer;
  readonly what: string;
  readonly answer: (connection: InnerConnection) => void;
  readonly fail: (error: Error) => void;
}

function asRunnerError(error: unknown): RunnerError {
  return error instanceof RunnerError ? error : new RunnerError('internal', String(error), { cause: error });
}

function known<T>(found: T | undefined, number: number): T {
  if (found === undefined) throw broken(`a record of connection ${number}, which does not exist`);
  return found;
}

function checked(address: string, port: number, what: string): Peer {
  if (isIPv4(address) && address.startsWith('127.') && Number.isInteger(port) && port > 0 && port <= 65_535)
    return { address, port };
  throw new RunnerError('invalid_request', `${what}: give an address of 127.0.0.0/8 and a port of 1 to 65535`);
}
