/** So many a minute, and no more than a burst of them at once. Its clock is the caller's, in milliseconds. */
export class TokenBucket {
  readonly perMinute: number;
  readonly #burst: number;
  /**
   * When it will be full again: a time instead of a number of tokens, so that nothing adds up from taking often. (The "theoretical
   * arrival time" of the generic cell rate algorithm, ITU-T I.371.)
   */
  #fullAtMs: number;

  constructor(perMinute: number, burst: number, nowMs: number) {
    this.perMinute = perMinute;
    this.#burst = burst;
    this.#fullAtMs = nowMs;
  }

  /** How long until one can be taken, in whole milliseconds; 0: now. */
  waitMs(nowMs: number): number {
    const emptyForMs = this.#fullAtMs - nowMs - (this.#burst - 1) * this.#eachMs;
    return Math.max(0, Math.ceil(emptyForMs - tinyMs));
  }

  /** Call it when `waitMs` is 0. */
  take(nowMs: number): void {
    this.#fullAtMs = Math.max(this.#fullAtMs, nowMs) + this.#eachMs;
  }

  isFull(nowMs: number): boolean {
    return this.#fullAtMs <= nowMs;
  }

  get #eachMs(): number {
    return 60_000 / this.perMinute;
  }
}

/** What rounding may have added. */
const tinyMs = 1e-6;
