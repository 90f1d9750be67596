import { TokenBucket } from '../token-bucket.ts';

/** Something that costs this process time, and that a sandbox may have as often as it likes: at once so many, then so many a second. */
export class Pace {
  readonly #bucket: TokenBucket;
  readonly #waiting = new Map<NodeJS.Timeout, () => void>();
  #over = false;

  constructor({ perSecond, burst }: { readonly perSecond: number; readonly burst: number }) {
    this.#bucket = new TokenBucket(60 * perSecond, burst, performance.now());
  }

  /** Who is waiting now. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** One after the other, in the order in which they came. Whoever bounds how many wait bounds how long. Never rejects. */
  turn(): Promise<void> {
    const nowMs = performance.now();
    const waitMs = this.#bucket.waitMs(nowMs);
    this.#bucket.take(nowMs);
    if (waitMs === 0 || this.#over) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(timer);
        resolve();
      }, waitMs).unref();
      this.#waiting.set(timer, resolve);
    });
  }

  /** Nobody waits any more. */
  release(): void {
    this.#over = true;
    for (const [timer, resolve] of this.#waiting) {
      clearTimeout(timer);
      resolve();
    }
    this.#waiting.clear();
  }
}
