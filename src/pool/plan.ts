import type { Digest } from '../digest.ts';

/** How many sandboxes may wait, and how much memory their limits may come to. */
export interface PoolBound {
  readonly warmMax: number;
  readonly memoryBytes: number;
}

/** One kind of sandbox that somebody may ask for. */
export interface Wish {
  readonly key: Digest;
  /** The limit of one. */
  readonly memoryBytes: number;
  /** How many would be of use. */
  readonly wanted: number;
  /** So many before anybody else's second. */
  readonly atLeast: number;
}

/**
 * How many of each are to be ready. What was asked for by name comes first; the rest is shared out one at a time, each to whom
 * it serves most: many wishes for one kind make no other kind wait for ever (D'Hondt).
 */
export function plan(wishes: readonly Wish[], bound: PoolBound): ReadonlyMap<Digest, number> {
  const planned = new Map<Digest, number>();
  let [count, memoryBytes] = [0, 0];
  const fits = (wish: Wish): boolean => count < bound.warmMax && memoryBytes + wish.memoryBytes <= bound.memoryBytes;
  const give = (wish: Wish): void => {
    planned.set(wish.key, (planned.get(wish.key) ?? 0) + 1);
    count++;
    memoryBytes += wish.memoryBytes;
  };
  for (const wish of wishes) while ((planned.get(wish.key) ?? 0) < wish.atLeast && fits(wish)) give(wish);
  for (;;) {
    const next = best(
      wishes.filter((wish) => (planned.get(wish.key) ?? 0) < wish.wanted && fits(wish)),
      planned,
    );
    if (next === undefined) return planned;
    give(next);
  }
}

function best(wishes: readonly Wish[], planned: ReadonlyMap<Digest, number>): Wish | undefined {
  let found: Wish | undefined;
  let most = 0;
  for (const wish of wishes) {
    const worth = wish.wanted / ((planned.get(wish.key) ?? 0) + 1);
    if (worth > most) [found, most] = [wish, worth];
  }
  return found;
}

/** How often one kind was asked for lately: each time counts one, and half as much after every half-life. */
export class Demand {
  readonly #forgetMs: number;
  #score = 0;
  #scoredMs = 0;
  #lastMs = Number.NEGATIVE_INFINITY;
  #beforeMs = Number.NEGATIVE_INFINITY;

  /** Nobody has asked for `forgetMs`: nobody will. */
  constructor(forgetMs: number) {
    this.#forgetMs = forgetMs;
  }

  count(nowMs: number): void {
    this.#score = this.#scoreAt(nowMs) + 1;
    this.#scoredMs = nowMs;
    [this.#beforeMs, this.#lastMs] = [this.#lastMs, nowMs];
  }

  /** Whoever comes once, with files that nobody else has, is not waited for. */
  wanted(nowMs: number): number {
    if (this.isOver(nowMs) || this.#lastMs - this.#beforeMs > this.#forgetMs) return 0;
    return Math.max(1, Math.ceil(this.#scoreAt(nowMs) / 2));
  }

  isOver(nowMs: number): boolean {
    return nowMs - this.#lastMs > this.#forgetMs;
  }

  #scoreAt(nowMs: number): number {
    return this.#score * 0.5 ** ((nowMs - this.#scoredMs) / (this.#forgetMs / 2));
  }
}
