import { RunnerError, type ErrorCode } from './errors.ts';

/**
 * A bound on waiting, on the monotonic clock. It owns its timer: on Node 20 a timer that lives only inside
 * `AbortSignal.any([AbortSignal.timeout(ms)])` is collected and never fires.
 */
export class Deadline {
  readonly #controller = new AbortController();
  readonly #endMs: number;
  readonly #timer: NodeJS.Timeout;
  readonly timeoutMs: number;

  private constructor(timeoutMs: number, what: string, code: ErrorCode) {
    this.timeoutMs = timeoutMs;
    this.#endMs = performance.now() + timeoutMs;
    this.#timer = setTimeout(() => {
      this.#controller.abort(new RunnerError(code, `${what}: no answer within ${timeoutMs} ms`));
    }, timeoutMs);
  }

  /** Starts now. Call `clear()` when the work is done; prefer `Deadline.run`. */
  static after(timeoutMs: number, what: string, code: ErrorCode = 'engine_timeout'): Deadline {
    return new Deadline(timeoutMs, what, code);
  }

  /** Runs `work` and rejects with `code` once `timeoutMs` have passed, whether or not the work heeds its signal. */
  static async run<T>(
    timeoutMs: number,
    what: string,
    work: (signal: AbortSignal) => Promise<T>,
    code: ErrorCode = 'engine_timeout',
  ): Promise<T> {
    const deadline = Deadline.after(timeoutMs, what, code);
    try {
      return await Promise.race([work(deadline.signal), deadline.expired()]);
    } finally {
      deadline.clear();
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get remainingMs(): number {
    return Math.max(0, this.#endMs - performance.now());
  }

  clear(): void {
    clearTimeout(this.#timer);
  }

  private expired(): Promise<never> {
    return new Promise((_, reject) => {
      this.signal.addEventListener('abort', () => reject(this.signal.reason as Error), { once: true });
    });
  }
}
