import { RunnerError } from '../errors.ts';
import type { ExitRecord } from './arrivals.ts';
import { CallWire, type CallEvents } from './call-wire.ts';
import { SpecEncoder } from './exec-spec.ts';
import { fileErrorOf } from './file-errors.ts';
import { broken } from './frames.ts';
import type { Link } from './link.ts';
import { RecordParser, type HandRecord } from './records.ts';
import { FileError } from './spec.ts';
import type { Slots } from '../slots.ts';
import { killCause, tags, verbs } from './wire.ts';

export interface HandRequest {
  readonly verb: keyof typeof verbs;
  /** For messages; the arguments are in `args`. */
  readonly path: string;
  readonly args: (spec: SpecEncoder) => void;
  readonly stdin: boolean;
  readonly timeoutMs: number;
}

export interface HandHost {
  /** Rejects when the sandbox cannot be used. */
  link(): Promise<Link>;
  takeNumber(): number;
}

/** Takes the records in order. `true` = it has room for more; `false` = acknowledge nothing until `hand.more()`. */
export type RecordSink = (record: HandRecord) => boolean;

/** Waits for a slot, which is free again once the hand has ended, and sends it off. */
export async function startHand(host: HandHost, slots: Slots, request: HandRequest, sink: RecordSink): Promise<Hand> {
  await slots.take();
  try {
    const hand = new Hand(await host.link(), host.takeNumber(), request, sink);
    await hand.begin();
    void hand.done.then(
      () => slots.give(),
      () => slots.give(),
    );
    return hand;
  } catch (error) {
    slots.give();
    throw error;
  }
}

const slackMs = 12_000;
const ackBytes = 65_536;

/**
 * One file verb in progress. `done` resolves after the record that ends it and the end of the call, rejects with a
 * `FileError` for what the verb met, and with a `RunnerError` when the sandbox is gone. A hand that breaks its grammar breaks the link.
 */
export class Hand {
  readonly done: Promise<void>;
  readonly #request: HandRequest;
  readonly #link: Link;
  readonly #wire: CallWire;
  readonly #sink: RecordSink;
  readonly #parser = new RecordParser();
  readonly #beganMs = performance.now();
  #receivedBytes = 0;
  #unackedBytes = 0;
  #room = true;
  #cancelled = false;
  #failure: FileError | undefined;
  #exit: ExitRecord | undefined;
  #finish: (error?: Error) => void = () => undefined;

  constructor(link: Link, number: number, request: HandRequest, sink: RecordSink) {
    this.#request = request;
    this.#link = link;
    this.#sink = sink;
    this.#wire = new CallWire(link, number, { stdin: request.stdin, aux: false }, this.#events);
    this.done = new Promise((resolve, reject) => {
      this.#finish = (error) => (error === undefined ? resolve() : reject(error));
    });
    this.done.catch(() => undefined); // Whoever started it awaits it; a walk may have been left before.
  }

  async begin(): Promise<void> {
    const spec = new SpecEncoder();
    spec.u8(tags.verb, verbs[this.#request.verb]);
    spec.u32(tags.killAfterMs, this.#request.timeoutMs);
    if (this.#request.stdin) spec.u8(tags.stdin, 1);
    this.#request.args(spec);
    await this.#wire.spawn(spec.pieces());
  }

  write(bytes: Uint8Array, end: boolean): Promise<void> {
    return this.#wire.stdin?.write(bytes, end) ?? Promise.resolve();
  }

  /** The sink has room again. */
  more(): void {
    this.#room = true;
    this.#acknowledge(0);
  }

  /** Its result is not wanted any more: what still comes is taken and dropped, or it could not end. */
  cancel(): void {
    this.#cancelled = true;
    this.#room = true;
    this.#wire.kill(0, killCause.cancelled);
    this.#acknowledge(0);
  }

  readonly #events: CallEvents = {
    started: () => undefined,
    output: (stream, bytes) => this.#take(stream, bytes),
    exited: (exit) => {
      this.#exit = exit;
    },
    ended: () => {
      this.#wire.release();
      this.#finish(this.#verdict());
    },
    refused: (_reason, text) =>
      this.#finish(
        new RunnerError(
          'too_many_calls',
          `${this.#name}: the sandbox refused it: ${JSON.stringify(text.slice(0, 200))}`,
        ),
      ),
    tick: (nowMs) => {
      if (nowMs > this.#beganMs + this.#request.timeoutMs + slackMs)
        this.#link.destroy(new RunnerError('sandbox_lost', `${this.#name}: the supervisor has not ended it in time`));
    },
    disconnected: (reason) =>
      this.#finish(new RunnerError(reason.code, `${this.#name}: ${reason.message}`, { cause: reason })),
  };

  #take(stream: string, bytes: Buffer): void {
    this.#receivedBytes += bytes.length;
    this.#unackedBytes += bytes.length;
    if (stream !== 'stdout') throw broken('a hand that writes beside its records');
    this.#parser.push(bytes, this.#record);
    this.#acknowledge(ackBytes);
  }

  readonly #record = (record: HandRecord): void => {
    if (record.kind === 'failed') this.#failure = fileErrorOf(record.errno, record.path, this.#request.verb);
    else if (!this.#cancelled) this.#room = this.#sink(record) && this.#room;
  };

  #acknowledge(leastBytes: number): void {
    if (!this.#room || this.#unackedBytes <= leastBytes) return;
    this.#unackedBytes = 0;
    this.#wire.acknowledge(this.#receivedBytes);
  }

  /** Undefined when the verb was done. */
  #verdict(): Error | undefined {
    if (this.#failure !== undefined) return this.#failure;
    const exit = this.#exit;
    if (this.#parser.done && exit?.kind === 'exited' && exit.code === 0) return undefined;
    const how =
      exit?.cause === 'timed_out'
        ? `took longer than ${this.#request.timeoutMs} ms`
        : exit?.cause === 'cancelled'
          ? 'was cancelled'
          : `was cut short (${exit?.kind ?? 'unknown'} ${exit?.code ?? ''}, stage ${exit?.stage ?? 'unknown'})`;
    return new FileError('io', this.#request.path, `${this.#name} ${how}; try it again`);
  }

  get #name(): string {
    return `${this.#request.verb} ${JSON.stringify(this.#request.path)}`;
  }
}
