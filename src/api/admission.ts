import { RunnerError } from '../errors.ts';
import type { Holder } from '../service/quota.ts';

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

/** Bounds on what is under way, over all, for each key, and half of all for each team: who comes too late is told so at once. */
export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #requests = new Counter();
  readonly #streams = new Counter();
  #idleSinceMs = performance.now();

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  /** Returns how to leave, once. Throws `queue_full` or `rate_limited`. */
  enter({ keyId, team }: Holder, lasting: boolean): () => void {
    const { requestsMax, requestsPerKeyMax, streamsMax, streamsPerKeyMax } = this.#limits;
    const what = lasting ? 'streams' : 'requests';
    const counter = lasting ? this.#streams : this.#requests;
    const max = lasting ? streamsMax : requestsMax;
    if (counter.total >= max)
      throw new RunnerError('queue_full', `the service has as many ${what} as it takes`, { retryAfterMs });
    const [key, all] = [`key ${keyId}`, `team ${team}`];
    if (counter.of(key) >= (lasting ? streamsPerKeyMax : requestsPerKeyMax))
      throw new RunnerError('rate_limited', `this key has as many ${what} under way as it may`, { retryAfterMs });
    if (counter.of(all) >= Math.ceil(max / 2)) {
      const message = `this team has ${counter.of(all)} ${what} under way, and leaves as many to other teams`;
      throw new RunnerError('rate_limited', message, { retryAfterMs });
    }
    counter.add([key, all], 1);
    let inside = true;
    return () => {
      if (!inside) return;
      inside = false;
      counter.add([key, all], -1);
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
  readonly #of = new Map<string, number>();
  total = 0;

  of(who: string): number {
    return this.#of.get(who) ?? 0;
  }

  /** One more, or one less, that counts for each of these. */
  add(whose: readonly string[], by: 1 | -1): void {
    this.total += by;
    for (const who of whose) {
      const now = this.of(who) + by;
      if (now === 0) this.#of.delete(who);
      else this.#of.set(who, now);
    }
  }
}
