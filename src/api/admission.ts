import { RunnerError } from '../errors.ts';

export interface AdmissionLimits {
  /** Requests under way. */
  readonly requestsMax: number;
  readonly requestsPerKeyMax: number;
  /** Streams and sockets that are open. */
  readonly streamsMax: number;
  readonly streamsPerKeyMax: number;
}

export const standardAdmission: AdmissionLimits = {
  requestsMax: 1_024,
  requestsPerKeyMax: 256,
  streamsMax: 1_024,
  streamsPerKeyMax: 256,
};

const retryAfterMs = 1_000;

/** Bounds on what is under way, over all and for each key: who comes too late is told so at once. */
export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #requests = new Counter();
  readonly #streams = new Counter();
  #idleSinceMs = performance.now();

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  /** Returns how to leave, once. Throws `queue_full` or `rate_limited`. */
  enter(keyId: string, lasting: boolean): () => void {
    const { requestsMax, requestsPerKeyMax, streamsMax, streamsPerKeyMax } = this.#limits;
    const what = lasting ? 'streams' : 'requests';
    const counter = lasting ? this.#streams : this.#requests;
    if (counter.total >= (lasting ? streamsMax : requestsMax))
      throw new RunnerError('queue_full', `the service has as many ${what} as it takes`, { retryAfterMs });
    if (counter.of(keyId) >= (lasting ? streamsPerKeyMax : requestsPerKeyMax))
      throw new RunnerError('rate_limited', `this key has as many ${what} under way as it may`, { retryAfterMs });
    counter.add(keyId, 1);
    let inside = true;
    return () => {
      if (!inside) return;
      inside = false;
      counter.add(keyId, -1);
      this.#idleSinceMs = performance.now();
    };
  }

  get requests(): number {
    return this.#requests.total;
  }

  get streams(): number {
    return this.#streams.total;
  }

  /** Monotonic; undefined while something is under way. */
  get idleSinceMs(): number | undefined {
    return this.requests + this.streams === 0 ? this.#idleSinceMs : undefined;
  }
}

class Counter {
  readonly #byKey = new Map<string, number>();
  total = 0;

  of(key: string): number {
    return this.#byKey.get(key) ?? 0;
  }

  add(key: string, by: 1 | -1): void {
    const now = this.of(key) + by;
    this.total += by;
    if (now === 0) this.#byKey.delete(key);
    else this.#byKey.set(key, now);
  }
}
