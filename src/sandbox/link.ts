import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { Deadline } from '../deadline.ts';
import type { ContainerStream } from '../engine/engine.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { parseListed, parseWelcome, type ListedProcesses, type Welcome } from './arrivals.ts';
import { broken, encodeFrame, FrameParser, type Frame, type FramePayload } from './frames.ts';
import { arrivals, fromSupervisor, paddingBytes, protocolVersion, toSupervisor } from './wire.ts';

export interface LinkOptions {
  /** The supervisor ends everything after this long without a frame. */
  readonly orphanMs: number;
  /** For the answer to HELLO. */
  readonly timeoutMs: number;
  /** Default 1,000. The stream is lost when five in a row were not answered. */
  readonly pingEveryMs?: number;
  /** The stream lies in PID 1's own pipes: it ends only with PID 1, or when another runner has taken it over. */
  readonly direct?: boolean;
}

/** Who takes the frames of one call. What it throws ends the link. */
export interface CallReceiver {
  accept(frame: Frame): void;
  /** Once a second: for deadlines of the host's side. */
  tick(nowMs: number): void;
  disconnected(reason: RunnerError): void;
}

/** More than the supervisor and the engine can have buffered for all calls together. */
const discardMax = 64 * 1024 * 1024;
const unansweredMax = 5;
const offerPipes = 1;
const lateMax = 256;
const lazyMs = 20;
const listTimeoutMs = 5_000;

/**
 * The runner's end of the stream of one sandbox. Promises:
 *  - nothing that arrives is believed: the first frame that does not fit what was said before destroys this link,
 *    and no other; what is buffered is at most one frame;
 *  - a stream that ends is lost at once, one that is silent after five unanswered PINGs;
 *  - after the end nothing is delivered and everything that is sent goes nowhere.
 */
export class Link {
  readonly #stream: ContainerStream;
  readonly #duplex: Duplex;
  readonly #nonce: Buffer;
  readonly #epoch: number;
  readonly #parser: FrameParser;
  readonly #calls = new Map<number, CallReceiver>();
  readonly #late = new Set<number>();
  readonly #lists: ((listed: readonly ListedProcesses[]) => void)[] = [];
  #pings = 0;
  #pongs = 0;
  #timer: NodeJS.Timeout | undefined;
  #greeted: ((welcome: Welcome) => void) | undefined;
  #waiting: (() => void)[] = [];
  #lazy: Buffer[] = [];
  #lazyTimer: NodeJS.Timeout | undefined;
  #end: RunnerError | undefined;
  #final = false;
  #tellLost: (reason: RunnerError) => void = () => undefined;
  /** Resolves once, with why the stream cannot be used any more. Never rejects. */
  readonly lost: Promise<RunnerError>;

  private constructor(stream: ContainerStream, scan: boolean, direct: boolean) {
    this.#stream = stream;
    this.#duplex = stream.duplex;
    this.#nonce = freshNonce();
    this.#epoch = this.#nonce.readUInt32LE(0);
    this.#parser = new FrameParser({
      epoch: this.#epoch,
      ...(scan ? { scan: { nonce: this.#nonce, discardMax } } : {}),
    });
    this.lost = new Promise((resolve) => {
      this.#tellLost = resolve;
    });
    this.#duplex.on('data', (chunk: Buffer) => this.#take(chunk));
    this.#duplex.on('drain', () => this.#drained());
    this.#duplex.once('end', () => {
      this.#final = direct;
      this.#ended('it ended');
    });
    this.#duplex.once('close', () => this.#ended('it was closed'));
    this.#duplex.on('error', (error: Error) => this.#ended(messageOf(error)));
  }

  /** The first link of a sandbox. */
  static open(stream: ContainerStream, options: LinkOptions): Promise<{ link: Link; welcome: Welcome }> {
    return new Link(stream, false, options.direct === true).#greet(options, Buffer.alloc(0));
  }

  /** A later one: completes what a dead runner left in the pipe, and skips what it did not read. */
  static resume(stream: ContainerStream, options: LinkOptions): Promise<{ link: Link; welcome: Welcome }> {
    return new Link(stream, true, false).#greet(options, Buffer.alloc(paddingBytes));
  }

  /** Why it ended; `undefined` while it is in use. */
  get end(): RunnerError | undefined {
    return this.#end;
  }

  /** Joining again would be no use: nobody answers, or PID 1 itself has ended the stream. */
  get final(): boolean {
    return this.#final;
  }

  add(call: number, receiver: CallReceiver): void {
    this.#calls.set(call, receiver);
  }

  /** `late`: an answer to input that crossed the call's end may still be on its way. */
  remove(call: number, late: boolean): void {
    this.#calls.delete(call);
    if (!late) return;
    this.#late.add(call);
    if (this.#late.size > lateMax) for (const oldest of this.#late) return void this.#late.delete(oldest);
  }

  send(type: number, call: number, payload: FramePayload, flags = 0): void {
    if (this.#end !== undefined) return;
    const frame = encodeFrame(this.#epoch, type, call, payload, flags);
    this.#duplex.write(this.#lazy.length === 0 ? frame : Buffer.concat([...this.#lazy, frame]));
    this.#lazy = [];
  }

  /** In order, but not at once: it travels with the next frame, or after a moment. */
  sendLazily(type: number, call: number, payload: Uint8Array): void {
    if (this.#end !== undefined) return;
    this.#lazy.push(encodeFrame(this.#epoch, type, call, payload));
    this.#lazyTimer ??= setTimeout(() => {
      this.#lazyTimer = undefined;
      if (this.#end === undefined && this.#lazy.length > 0) this.#duplex.write(Buffer.concat(this.#lazy));
      this.#lazy = [];
    }, lazyMs);
  }

  /** `undefined` when there is room; else resolves when there is, or when the link is lost. */
  ready(): Promise<void> | undefined {
    if (this.#end !== undefined || !this.#duplex.writableNeedDrain) return undefined;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async list(): Promise<readonly ListedProcesses[]> {
    if (this.#end !== undefined) throw this.#end;
    const answer = new Promise<readonly ListedProcesses[]>((resolve) => this.#lists.push(resolve));
    this.send(toSupervisor.list, 0, Buffer.alloc(0));
    const lost = this.lost.then((reason) => {
      throw reason;
    });
    return Deadline.run(listTimeoutMs, 'LIST', () => Promise.race([answer, lost]), 'sandbox_lost');
  }

  /** Everything inside is killed and PID 1 exits. */
  shutdown(): void {
    this.send(toSupervisor.shutdown, 0, Buffer.alloc(0));
  }

  /** Another link of the same runner goes on. Nobody is told; the duplex stays open, and what still comes is dropped. */
  retire(): void {
    this.#end = new RunnerError('internal', 'this link was left for another one');
    clearInterval(this.#timer);
    clearTimeout(this.#lazyTimer);
  }

  /** Ends this link for `reason`; the first one counts. */
  destroy(reason: RunnerError): void {
    if (this.#end !== undefined) return;
    this.#end = reason;
    clearInterval(this.#timer);
    clearTimeout(this.#lazyTimer);
    this.#duplex.destroy();
    this.#tellLost(reason);
    this.#drained();
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const call of calls) call.disconnected(reason);
  }

  async #greet(options: LinkOptions, padding: Buffer): Promise<{ link: Link; welcome: Welcome }> {
    const welcomed = new Promise<Welcome>((resolve) => {
      this.#greeted = resolve;
    });
    const lost = this.lost.then((reason) => {
      throw reason;
    });
    const hello = Buffer.alloc(24);
    this.#nonce.copy(hello);
    hello.writeUInt32LE(protocolVersion, 16);
    hello.writeUInt32LE(options.orphanMs, 20);
    if (padding.length > 0) this.#duplex.write(padding);
    this.send(toSupervisor.hello, 0, hello, this.#stream.openPipes === undefined ? 0 : offerPipes);
    try {
      const what = 'waiting for the supervisor to answer HELLO';
      const work = (): Promise<Welcome> => Promise.race([welcomed, lost]);
      const welcome = await Deadline.run(options.timeoutMs, what, work, 'sandbox_lost');
      this.#watch(options.pingEveryMs ?? 1_000);
      return { link: this, welcome };
    } catch (error) {
      this.destroy(error instanceof RunnerError ? error : new RunnerError('sandbox_lost', messageOf(error)));
      throw this.#end ?? error;
    }
  }

  /** Counts intervals, not time: a runner that was itself stopped for a while does not take that for silence. */
  #watch(everyMs: number): void {
    if (this.#end !== undefined) return;
    this.#timer = setInterval(() => {
      if (this.#pings - this.#pongs >= unansweredMax) {
        const silentMs = unansweredMax * everyMs;
        this.#final = true;
        this.destroy(this.#loss(`the supervisor has not answered for ${silentMs} ms`));
        return;
      }
      const token = Buffer.alloc(8);
      token.writeUInt32LE(++this.#pings);
      this.send(toSupervisor.ping, 0, token);
      const nowMs = performance.now();
      for (const call of this.#calls.values()) call.tick(nowMs);
    }, everyMs);
    this.#timer.unref();
  }

  #take(chunk: Buffer): void {
    if (this.#end !== undefined) return;
    try {
      this.#parser.push(chunk, this.#dispatch);
    } catch (error) {
      this.destroy(
        error instanceof RunnerError ? error : new RunnerError('internal', messageOf(error), { cause: error }),
      );
    }
  }

  readonly #dispatch = (frame: Frame): void => {
    if (this.#end !== undefined) return;
    if (this.#greeted !== undefined) this.#acceptWelcome(frame, this.#greeted);
    else if (frame.call === 0) this.#accept(frame);
    else {
      const call = this.#calls.get(frame.call);
      if (call === undefined && frame.type === fromSupervisor.stdinAck && this.#late.has(frame.call)) return;
      if (call === undefined) throw broken(`${nameOf(frame)} for call ${frame.call}, which does not exist`);
      call.accept(frame);
    }
  };

  #acceptWelcome(frame: Frame, greeted: (welcome: Welcome) => void): void {
    if (frame.type !== fromSupervisor.welcome) throw broken(`${nameOf(frame)} before WELCOME`);
    const welcome = parseWelcome(frame.payload, this.#nonce);
    if (welcome.version !== protocolVersion) throw broken(`version ${welcome.version} instead of ${protocolVersion}`);
    if (welcome.pipes !== undefined && this.#stream.openPipes === undefined)
      throw broken('WELCOME offers pipes that nobody asked for');
    this.#greeted = undefined;
    greeted(welcome);
  }

  #accept(frame: Frame): void {
    if (frame.type === fromSupervisor.pong) {
      if (
        this.#pongs >= this.#pings ||
        frame.payload.readUInt32LE(0) !== ++this.#pongs ||
        frame.payload.readUInt32LE(4) !== 0
      )
        throw broken('PONG without its PING');
    } else if (frame.type === fromSupervisor.listed) {
      const listed = parseListed(frame.payload);
      const answer = this.#lists.shift();
      if (answer === undefined) throw broken('LISTED without LIST');
      answer(listed);
    } else {
      throw broken(`${nameOf(frame)} in the middle of the stream`);
    }
  }

  #drained(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const go of waiting) go();
  }

  #ended(how: string): void {
    if (this.#end === undefined) this.destroy(this.#loss(`the stream to the supervisor is gone: ${how}`));
  }

  #loss(what: string): RunnerError {
    const tail = this.#stream.stderrTail();
    const last = tail === '' ? '' : `; its last words: ${JSON.stringify(tail.slice(-500))}`;
    return new RunnerError('sandbox_lost', `${what}${last}`);
  }
}

function freshNonce(): Buffer {
  for (;;) {
    const nonce = randomBytes(16);
    if (nonce.readUInt32LE(0) !== 0) return nonce;
  }
}

function nameOf(frame: Frame): string {
  return arrivals.get(frame.type)?.name ?? `frame ${frame.type}`;
}
