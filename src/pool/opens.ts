import { availableParallelism } from 'node:os';
import { RunnerError } from '../errors.ts';

export interface OpensOptions {
  /** How many sandboxes are made for runs at once; who comes later waits. Default: two for each processor, at most 16. */
  readonly atOnce?: number;
  /** How many may wait; who comes later is refused with `queue_full`. Default 256. */
  readonly waitingMax?: number;
}

export interface OpensStats {
  readonly opening: number;
  readonly waiting: number;
  readonly atOnce: number;
  readonly waitingMax: number;
  readonly refused: number;
}

/**
 * The opens of one runner: how many make something at once, who waits for a turn, and when there is quiet. An engine that makes more at
 * once is later with all of them: of 30 at once on two processors the median was open after 7.4 s with four turns, 12.2 s with
 * eight and 19.2 s with sixteen, on a busy machine.
 */
export class Opens {
  readonly #atOnce: number;
  readonly #waitingMax: number;
  readonly #line: Waiting[] = [];
  readonly #quiet = new Set<() => void>();
  #under = 0;
  #turns = 0;
  #refused = 0;
  /** Of one turn, as it was lately. */
  #turnMs = 500;

  constructor({ atOnce, waitingMax = 256 }: OpensOptions = {}) {
    this.#atOnce = Math.max(1, atOnce ?? Math.min(16, 2 * availableParallelism()));
    this.#waitingMax = Math.max(0, waitingMax);
  }

  /** For as long as it lasts there is no quiet. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.#under++;
    try {
      return await work();
    } finally {
      if (--this.#under === 0) for (const tell of this.#quiet) tell();
    }
  }

  /** First come, first served. Throws `queue_full`, or the reason of `signal` while it waits. */
  async turn<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    await this.#take(signal);
    const startMs = performance.now();
    try {
      return await work();
    } finally {
      this.#turnMs += (performance.now() - startMs - this.#turnMs) / 8;
      const next = this.#line.shift();
      if (next === undefined) this.#turns--;
      else next.go();
    }
  }

  /** Resolves when no open is under way, at the latest after so long. */
  async quiet(patienceMs: number): Promise<void> {
    if (this.#under === 0) return;
    await new Promise<void>((resolve) => {
      const tell = (): void => {
        clearTimeout(timer);
        this.#quiet.delete(tell);
        resolve();
      };
      const timer = setTimeout(tell, patienceMs);
      timer.unref();
      this.#quiet.add(tell);
    });
  }

  stats(): OpensStats {
    const [opening, waiting, refused] = [this.#under, this.#line.length, this.#refused];
    return { opening, waiting, atOnce: this.#atOnce, waitingMax: this.#waitingMax, refused };
  }

  async #take(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    if (this.#turns < this.#atOnce) {
      this.#turns++;
      return;
    }
    if (this.#line.length >= this.#waitingMax) throw this.#full();
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        this.#line.splice(this.#line.indexOf(waiting), 1);
        reject(signal?.reason as Error);
      };
      const waiting: Waiting = {
        go: () => {
          signal?.removeEventListener('abort', leave);
          resolve();
        },
      };
      signal?.addEventListener('abort', leave, { once: true });
      this.#line.push(waiting);
    });
  }

  #full(): RunnerError {
    this.#refused++;
    const retryAfterMs = Math.ceil(Math.max(100, (this.#turnMs * (this.#line.length + 1)) / this.#atOnce));
    return new RunnerError(
      'queue_full',
      `${this.#atOnce} runs are being opened and ${this.#line.length} wait, which is all that may; ask again in ${retryAfterMs} ms`,
      { retryAfterMs },
    );
  }
}

interface Waiting {
  readonly go: () => void;
}
