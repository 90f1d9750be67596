import { EgressFailure } from '../failure.ts';

/**
 * One bound for all the waits of one attempt: its own time, and the signal of whoever asked. It owns its timer, as
 * `Deadline` does, and fails in the words of the egress: `timed_out` for the one, the signal's own failure for the other.
 */
export class Bound {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #outer: AbortSignal | undefined;
  readonly #endMs: number;
  readonly #forward = (): void => this.#controller.abort(failureOf(this.#outer?.reason));

  constructor(timeoutMs: number, what: string, outer?: AbortSignal) {
    this.#outer = outer;
    this.#endMs = performance.now() + timeoutMs;
    this.#timer = setTimeout(() => {
      this.#controller.abort(new EgressFailure('timed_out', `${what}: no answer within ${timeoutMs} ms`));
    }, timeoutMs);
    if (outer?.aborted === true) this.#forward();
    else outer?.addEventListener('abort', this.#forward, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get remainingMs(): number {
    return Math.max(0, this.#endMs - performance.now());
  }

  /** What came first: the work, or the end of the time. `late` gets what the work brings when nobody waits any more. */
  race<T>(work: Promise<T>, late?: (result: T) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      const ended = (): void => reject(this.#controller.signal.reason as EgressFailure);
      if (this.signal.aborted) ended();
      else this.signal.addEventListener('abort', ended, { once: true });
      work.then(
        (result) => {
          this.signal.removeEventListener('abort', ended);
          if (this.signal.aborted) late?.(result);
          resolve(result);
        },
        (error: unknown) => {
          this.signal.removeEventListener('abort', ended);
          reject(error);
        },
      );
    });
  }

  /** Ends the waiting now, for a reason of its own. */
  end(failure: EgressFailure): void {
    this.#controller.abort(failure);
  }

  clear(): void {
    clearTimeout(this.#timer);
    this.#outer?.removeEventListener('abort', this.#forward);
  }
}

/** Why a signal was aborted, as a failure: its own, or `cut`. */
export function failureOf(reason: unknown): EgressFailure {
  if (reason instanceof EgressFailure) return reason;
  return new EgressFailure('cut', 'it is not allowed any longer', { cause: reason });
}
