import { setTimeout as sleep } from 'node:timers/promises';
import { RunnerError } from '../errors.ts';
import type { Gateway, InnerConnection, Peer } from '../sandbox/gateway/gateway.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import type { Checkpoint } from './checkpoint/checkpoint.ts';
import { Names } from './names/names.ts';
import { Pace } from './pace.ts';

/** What is done with what comes in. Nothing here may throw, and no promise may reject. */
export interface Guide {
  /** Call that a connection or a question is certain to be of. */
  callId(): string | undefined;
  toName(inner: InnerConnection, asked: { readonly host: string; readonly port: number }): Promise<void>;
  toProxy(inner: InnerConnection): Promise<void>;
}

export interface EntranceParts {
  readonly sandbox: Pick<Sandbox, 'openGateway' | 'state'>;
  readonly checkpoint: Pick<Checkpoint, 'name'>;
  readonly guide: Guide;
  /** The first address for a name; those before it may still be remembered inside. Default 0. */
  readonly firstAddress?: number;
}

export const loopback = '127.0.0.1';
export const proxyPort = 3128;
const dnsPort = 53;
/** A burst of a program that asks for many names; then they wait, and some are lost, as UDP may lose them. */
const questions = { perSecond: 1_000, burst: 512 };
const questionsWaitingMax = 512;
const reopenTries = 20;
const reopenAfterMs = 50;
const reopenAfterMaxMs = 5_000;

/**
 * Where a sandbox's connections and questions come in: DNS and a proxy on its loopback, and the listeners of names. Promises:
 *  - when the gateway is lost nothing passes until it is open again, for the same names at other addresses: an address that a
 *    program remembers never comes to mean another name;
 *  - what comes to a listener that nobody knows is reset.
 */
export class Entrance {
  readonly #parts: EntranceParts;
  readonly #closing = new AbortController();
  readonly #questions = new Pace(questions);
  #post: Post | undefined;
  #firstAddress: number;
  #reopening: Promise<void> | undefined;

  private constructor(parts: EntranceParts) {
    this.#parts = parts;
    this.#firstAddress = parts.firstAddress ?? 0;
  }

  /** Rejects with `policy_unenforceable` when it cannot listen inside. */
  static async open(parts: EntranceParts): Promise<Entrance> {
    const entrance = new Entrance(parts);
    await entrance.#open();
    return entrance;
  }

  /** To what listens on the loopback inside. Rejects with a `SocketError` when nobody does. */
  async connect(port: number): Promise<InnerConnection> {
    await this.#reopening;
    if (this.#post !== undefined) return this.#post.gateway.connect(loopback, port);
    throw new RunnerError('sandbox_lost', `connect to port ${port} inside: the gateway of the sandbox is gone`);
  }

  /** Every connection is reset. May be called twice; never rejects. */
  async close(): Promise<void> {
    this.#closing.abort(); // one that is being opened closes itself
    this.#questions.release();
    const post = this.#post;
    this.#post = undefined;
    post?.names.close();
    await post?.gateway.close();
  }

  async #open(): Promise<void> {
    const { sandbox, checkpoint } = this.#parts;
    let post: Post | undefined;
    const gateway = await sandbox.openGateway({
      connection: (inner, listener) => (post === undefined ? inner.reset() : this.#take(post, inner, listener)),
      datagram: (listener, bytes, peer) => {
        const open = post;
        if (open === undefined || this.#questions.waiting >= questionsWaitingMax) return;
        void this.#questions.turn().then(() => this.#answer(open, listener, bytes, peer));
      },
      lost: () => {
        if (post !== undefined) this.#lost(post);
      },
    });
    try {
      const [udp, tcp, proxy] = await Promise.all([
        gateway.listen('udp', loopback, dnsPort),
        gateway.listen('tcp', loopback, dnsPort),
        gateway.listen('tcp', loopback, proxyPort),
      ]);
      const names = new Names({ checkpoint, gateway, options: { firstAddress: this.#firstAddress } });
      post = { gateway, names, udp, tcp, proxy };
      if (this.#closing.signal.aborted || !gateway.open) throw new Error('it was closed while it was opened');
      this.#post = post;
    } catch (cause) {
      post?.names.close();
      await gateway.close();
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new RunnerError('policy_unenforceable', `the sandbox cannot be given its way out: ${why}`, { cause });
    }
  }

  #lost(post: Post): void {
    post.names.close();
    if (this.#post !== post) return;
    this.#post = undefined;
    this.#firstAddress = post.names.nextAddress;
    this.#reopening = this.#reopen().finally(() => {
      this.#reopening = undefined;
    });
  }

  /** As often as it makes sense; then nothing passes for the rest of the run. Never rejects. */
  async #reopen(): Promise<void> {
    const { signal } = this.#closing;
    for (let tries = 0; tries < reopenTries; tries++) {
      if (signal.aborted || this.#parts.sandbox.state !== 'running') return;
      try {
        return await this.#open();
      } catch {
        const waitMs = Math.min(reopenAfterMs * 2 ** tries, reopenAfterMaxMs);
        await sleep(waitMs, undefined, { signal, ref: false }).catch(() => undefined);
      }
    }
  }

  #take(post: Post, inner: InnerConnection, listener: number): void {
    const { guide } = this.#parts;
    if (listener === post.tcp) return void post.names.serve(inner, guide.callId());
    if (listener === post.proxy) return void guide.toProxy(inner);
    const held = post.names.hold(listener);
    if (held === undefined) return inner.reset();
    void guide.toName(inner, held).finally(held.release);
  }

  async #answer({ gateway, names, udp }: Post, listener: number, bytes: Buffer, peer: Peer): Promise<void> {
    if (listener !== udp) return;
    const answer = await names.answer(bytes, this.#parts.guide.callId());
    if (answer !== undefined && gateway.open) gateway.answer(listener, peer, answer);
  }
}

/** One gateway with what listens there. */
interface Post {
  readonly gateway: Gateway;
  readonly names: Names;
  readonly udp: number;
  readonly tcp: number;
  readonly proxy: number;
}
