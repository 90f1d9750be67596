import { setTimeout as sleep } from 'node:timers/promises';
import type { RunnerError } from '../errors.ts';

/** What waits for a call of one run, and what does something in its sandbox; both end when the run is handed over. */
export class CallsUnderWay {
  readonly #waiting = new Set<(reason: RunnerError) => void>();
  readonly #verbs = new Set<Promise<unknown>>();
  #over: RunnerError | undefined;

  /** Undefined while calls are taken. */
  get over(): RunnerError | undefined {
    return this.#over;
  }

  /** The answer, or the reason why nobody here will hear of it. */
  wait<T>(answer: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#waiting.add(reject);
      void answer.then(resolve, reject).finally(() => this.#waiting.delete(reject));
    });
  }

  /** Something short that is better done than left half done. */
  async finish<T>(work: Promise<T>): Promise<T> {
    this.#verbs.add(work);
    try {
      return await work;
    } finally {
      this.#verbs.delete(work);
    }
  }

  /** No call is taken from now on; resolves when those that are short are done, or `withinMs` have passed. */
  async drain(reason: RunnerError, withinMs: number): Promise<void> {
    this.#over = reason;
    const late = sleep(withinMs, undefined, { ref: false });
    await Promise.race([Promise.allSettled(this.#verbs), late]);
  }

  /** Whoever still waits is told. */
  tell(): void {
    const reason = this.#over;
    for (const reject of this.#waiting) if (reason !== undefined) reject(reason);
  }
}
