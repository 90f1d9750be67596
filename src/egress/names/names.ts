import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { Bound } from '../outside/bound.ts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { encodeName, rcode, readQuery, recordType, reply, type Answer, type Question } from './dns-message.ts';
import { EgressFailure } from '../failure.ts';
import { Pace } from '../pace.ts';
import { NameListeners, type Held, type ListenerGateway, type NameListenersOptions } from './name-listeners.ts';

export interface NamesParts {
  readonly checkpoint: Pick<Checkpoint, 'name'>;
  readonly gateway: ListenerGateway;
  readonly options?: NameListenersOptions;
}

const ttlSeconds = 30;
/** Of one sandbox at once; a datagram more is lost, as datagrams are. */
const answeringMax = 64;
const tcpMessageMaxBytes = 4_096;
const tcpIdleMs = 10_000;
/** Messages over TCP of all connections together. */
const streamed = { perSecond: 1_000, burst: 512 };

/**
 * The only resolver that a sandbox has. Promises:
 *  - nothing is forwarded, to anybody, ever: what a name resolves to outside is not known here;
 *  - a name that the policy lists gets an address inside, and its listeners are open before the answer leaves; any other does
 *    not exist, at once;
 *  - every name is decided and counted by the checkpoint; whatever bytes arrive, nothing throws.
 */
export class Names {
  readonly #checkpoint: Pick<Checkpoint, 'name'>;
  readonly #listeners: NameListeners;
  readonly #streamed = new Pace(streamed);
  #answering = 0;

  constructor(parts: NamesParts) {
    this.#checkpoint = parts.checkpoint;
    this.#listeners = new NameListeners(parts.gateway, parts.options);
  }

  /** The reply to one message; `undefined` when it deserves none. Never rejects. */
  async answer(message: Buffer, callId?: string): Promise<Buffer | undefined> {
    const query = readQuery(message);
    if (query.kind === 'ignored') return undefined;
    if (query.kind === 'malformed') return query.reply;
    if (this.#answering >= answeringMax) return undefined;
    this.#answering++;
    try {
      return await this.#decided(query.question, callId);
    } catch {
      // The record cannot be written, or nothing could be opened: there is no answer that would be true.
      return reply(query.question, rcode.servFail);
    } finally {
      this.#answering--;
    }
  }

  /** DNS over TCP (RFC 7766): one message after the other. Never rejects; the connection is closed when it resolves. */
  async serve(inner: Duplex, callId?: string): Promise<void> {
    inner.on('error', () => undefined);
    let held: Buffer = Buffer.alloc(0);
    try {
      for await (const chunk of withinIdle(inner)) {
        held = Buffer.concat([held, chunk]);
        while (held.length >= 2) {
          const length = held.readUInt16BE(0);
          if (length > tcpMessageMaxBytes) return;
          if (held.length < 2 + length) break;
          const answer = await this.answer(held.subarray(2, 2 + length), callId);
          held = held.subarray(2 + length);
          if (answer !== undefined) await say(inner, framed(answer));
          await turn(); // a chunk may hold thousands: other connections, and other runs, are served in between
          await this.#streamed.turn();
        }
      }
      inner.end();
      const bound = new Bound(tcpIdleMs, 'the end of a DNS connection');
      await bound.race(finished(inner)).finally(() => bound.clear());
    } catch {
      // Gone, or idle for too long.
    } finally {
      inner.destroy();
    }
  }

  /** Whom a connection to a listener means; `undefined`: nobody, reset it. Say `release()` when it is over. */
  hold(listener: number): Held | undefined {
    return this.#listeners.hold(listener);
  }

  /** For the names of the next gateway: no address from this one on was ever given. */
  get nextAddress(): number {
    return this.#listeners.nextAddress;
  }

  close(): void {
    this.#streamed.release();
    this.#listeners.close();
  }

  async #decided(question: Question, callId: string | undefined): Promise<Buffer> {
    const { name, type } = question;
    if (!question.internet) return reply(question, rcode.refused);
    if (name === undefined) return reply(question, rcode.nxDomain);
    const local = this.#local(question, name);
    if (local !== undefined) return local;
    const decision = await this.#checkpoint.name(name, callId);
    if (decision.kind !== 'listed') return reply(question, rcode.nxDomain);
    if (type !== recordType.a) return reply(question, rcode.noError);
    return reply(question, rcode.noError, [address(await this.#listeners.ensure(name, decision.ports))]);
  }

  /** What concerns nobody but the sandbox itself, or can exist nowhere (RFC 6761), is not put on record. */
  #local(question: Question, name: string): Buffer | undefined {
    if (name === 'invalid' || name.endsWith('.invalid')) return reply(question, rcode.nxDomain);
    if (name === 'localhost' || name.endsWith('.localhost')) {
      return reply(question, rcode.noError, question.type === recordType.a ? [address('127.0.0.1')] : []);
    }
    // RFC 6761: it never exists. The isolation is proven by asking for such a name.
    if (name === 'invalid' || name.endsWith('.invalid')) return reply(question, rcode.nxDomain);
    const reverse = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.127\.in-addr\.arpa$/.exec(name);
    if (reverse === null) return name === loopbackReverse6 ? reply(question, rcode.nxDomain) : undefined;
    const host = this.#listeners.nameOf(`127.${reverse[3]}.${reverse[2]}.${reverse[1]}`);
    if (host === undefined) return reply(question, rcode.nxDomain);
    const pointer: Answer = { type: recordType.ptr, ttlSeconds, data: encodeName(host) };
    return reply(question, rcode.noError, question.type === recordType.ptr ? [pointer] : []);
  }
}

const loopbackReverse6 = `1${'.0'.repeat(31)}.ip6.arpa`;

function address(dotted: string): Answer {
  return { type: recordType.a, ttlSeconds, data: Buffer.from(dotted.split('.').map(Number)) };
}

function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

/** Questions are read no faster than their answers are. */
async function say(inner: Duplex, answer: Buffer): Promise<void> {
  if (inner.write(answer)) return;
  const bound = new Bound(tcpIdleMs, 'room for a DNS answer');
  const gone = (): void => bound.end(new EgressFailure('cut', 'the client is gone'));
  inner.once('close', gone);
  try {
    await bound.race(once(inner, 'drain', { signal: bound.signal }));
  } finally {
    inner.off('close', gone);
    bound.clear();
  }
}

/** The chunks of a stream, while no pause between them is too long. */
async function* withinIdle(inner: Duplex): AsyncGenerator<Buffer> {
  const chunks = inner.iterator({ destroyOnReturn: false });
  for (;;) {
    const bound = new Bound(tcpIdleMs, 'a DNS question');
    const next = await bound.race<IteratorResult<unknown>>(chunks.next()).finally(() => bound.clear());
    if (next.done === true) return;
    yield next.value as Buffer;
  }
}
