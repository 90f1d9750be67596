import { TokenBucket } from '../../token-bucket.ts';
import type { GatewayParser } from './gateway-records.ts';

/** What a sandbox makes of nothing, and this process has to do something about. */
type Arrival = 'connection' | 'datagram';

export interface IntakeParts {
  readonly parser: Pick<GatewayParser, 'push' | 'hold' | 'stop'>;
  /** So many bytes more were taken. */
  readonly taken: (bytes: number) => void;
  /** What the parser throws when it goes on by itself. */
  readonly broken: (error: unknown) => void;
}

/** Connections are many in a test suite that keeps none; datagrams are questions for names, two for a connection. */
const most: Readonly<
  Record<Arrival, { readonly perSecond: number; readonly burst: number; readonly perTurn: number }>
> = {
  connection: { perSecond: 250, burst: 256, perTurn: 4 },
  datagram: { perSecond: 4_000, burst: 1_024, perTurn: 16 },
};

/**
 * What a gateway says, read no faster than one sandbox may keep busy the process that serves them all: so many connections and
 * datagrams in a second, and few of them in one turn of the event loop. The rest waits in the window of its call, and then inside,
 * where the gateway takes no more from its sockets; what is sent over connections is not counted.
 */
export class Intake {
  readonly #parts: IntakeParts;
  readonly #buckets: Readonly<Record<Arrival, TokenBucket>>;
  readonly #chunks: Buffer[] = [];
  /** Of the first chunk. */
  #at = 0;
  #inTurn = { connection: 0, datagram: 0 };
  /** How long to wait before going on, in milliseconds; 0: for the next turn. */
  #holdMs: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #waits = false;
  #stopped = false;

  constructor(parts: IntakeParts) {
    this.#parts = parts;
    const nowMs = performance.now();
    const bucket = (of: Arrival): TokenBucket => new TokenBucket(60 * most[of].perSecond, most[of].burst, nowMs);
    this.#buckets = { connection: bucket('connection'), datagram: bucket('datagram') };
  }

  /** Throws what the parser throws. */
  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    if (!this.#waits) this.#go();
  }

  /** To be told of each, while the parser tells of it. */
  took(arrival: Arrival): void {
    const [bucket, nowMs] = [this.#buckets[arrival], performance.now()];
    bucket.take(nowMs);
    this.#inTurn[arrival] += 1;
    const waitMs = bucket.waitMs(nowMs);
    if (waitMs === 0 && this.#inTurn[arrival] < most[arrival].perTurn) return;
    this.#holdMs = Math.max(this.#holdMs ?? 0, waitMs);
    this.#parts.parser.hold();
  }

  /** Nothing more is read. */
  stop(): void {
    this.#stopped = true;
    this.#chunks.length = 0;
    this.#parts.parser.stop();
    clearTimeout(this.#timer);
  }

  #go(): void {
    for (let chunk = this.#chunks[0]; chunk !== undefined && !this.#stopped; chunk = this.#chunks[0]) {
      const end = this.#parts.parser.push(chunk, this.#at);
      this.#parts.taken(end - this.#at);
      this.#at = end < chunk.length ? end : 0;
      if (this.#at === 0) this.#chunks.shift();
      if (this.#holdMs !== undefined) return this.#wait(this.#holdMs);
    }
  }

  #wait(ms: number): void {
    this.#waits = true;
    this.#holdMs = undefined;
    if (ms === 0) return void setImmediate(() => this.#resume());
    this.#timer = setTimeout(() => this.#resume(), Math.max(ms, restMs)).unref();
  }

  #resume(): void {
    this.#waits = false;
    this.#inTurn = { connection: 0, datagram: 0 };
    try {
      this.#go();
    } catch (error) {
      this.#parts.broken(error);
    }
  }
}

/** Long enough to be a rest, short enough not to be felt. */
const restMs = 4;
