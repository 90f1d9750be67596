import { Deadline } from '../deadline.ts';
import type { Digest } from '../digest.ts';
import { messageOf } from '../errors.ts';
import { Demand, plan, type PoolBound } from './plan.ts';

export interface PoolOptions {
  /** How many sandboxes may wait for a run; 0: none. */
  readonly warmMax: number;
  /** What their memory limits may come to together. Default: half of the engine's machine. */
  readonly memoryBytes?: number;
  /** What nobody has asked for so long goes. Default 600,000. */
  readonly idleMs?: number;
}

export interface PoolStats {
  /** Ready now. */
  readonly warm: number;
  /** Of their limits. */
  readonly memoryBytes: number;
  readonly making: number;
  readonly warmMax: number;
  /** Opens that got one, and that did not. */
  readonly taken: number;
  readonly missed: number;
  readonly made: number;
  /** Ended by themselves, or not as they were made when they were wanted. */
  readonly unfit: number;
  /** Nobody wanted them. */
  readonly expired: number;
  readonly failed: number;
  /** Why the last one could not be made. */
  readonly lastFailure: string | undefined;
}

/** What a pool keeps. */
export interface Kept {
  /** Resolves, and never rejects, when it is of no use any more. */
  readonly lost: Promise<unknown>;
  /** Rejects unless it is alive and just as it was made. */
  check(): Promise<void>;
  /** May be called again, also after it has failed. */
  discard(): Promise<void>;
}

/** How another one of the same kind is made. */
export interface Recipe<T extends Kept> {
  readonly key: Digest;
  readonly memoryBytes: number;
  make(): Promise<T>;
}

export interface PoolHost {
  /** Resolves when nobody is in a hurry. */
  quiet(): Promise<void>;
  /** Default: the monotonic clock. */
  readonly nowMs?: () => number;
}

const defaultIdleMs = 600_000;
const sweepMs = 5_000;
const checkMs = 2_000;
const triesMax = 2;
const kindsMax = 64;
const firstPauseMs = 1_000;
const pauseMaxMs = 60_000;

/**
 * Sandboxes that were made before anybody asked for them. Promises:
 *  - one is given to one run at most, and only while it is alive and just as it was made;
 *  - how many wait stays within the bound, and follows what was asked for lately;
 *  - one is made at a time, and only while no run is being opened (or one has been for seconds on end);
 *  - what could not be removed is tried again; after `drain` there are none.
 */
export class WarmPool<T extends Kept> {
  readonly #bound: PoolBound;
  readonly #idleMs: number;
  readonly #quiet: () => Promise<void>;
  readonly #nowMs: () => number;
  readonly #kinds = new Map<Digest, Kind<T>>();
  readonly #going = new Set<Promise<void>>();
  /** Could not be removed. */
  readonly #stuck = new Set<T>();
  readonly #count = { taken: 0, missed: 0, made: 0, unfit: 0, expired: 0, failed: 0 };
  #lastFailure: string | undefined;
  #refilling: Promise<void> | undefined;
  /** Something may be missing. */
  #lookAgain = false;
  #making = 0;
  #timer: NodeJS.Timeout | undefined;
  #drained: Promise<void> | undefined;

  constructor(options: PoolOptions & PoolBound, host: PoolHost) {
    this.#bound = { warmMax: options.warmMax, memoryBytes: options.memoryBytes };
    this.#idleMs = options.idleMs ?? defaultIdleMs;
    this.#quiet = () => host.quiet();
    this.#nowMs = host.nowMs ?? (() => performance.now());
    this.#timer = setInterval(() => this.sweep(), sweepMs);
    this.#timer.unref();
  }

  /** Counts as demand, whether or not there is one. What it gives is the caller's to discard. */
  async take(recipe: Recipe<T>): Promise<T | undefined> {
    if (this.#drained !== undefined) return undefined;
    const kind = this.#kindOf(recipe);
    kind.demand.count(this.#nowMs());
    try {
      for (let tries = 0; tries < triesMax; tries++) {
        const kept = kind.ready.shift()?.kept;
        if (kept === undefined) break;
        if (await this.#isFit(kept)) {
          this.#count.taken++;
          kind.pauseMs = 0;
          return kept;
        }
      }
      this.#count.missed++;
      return undefined;
    } finally {
      void this.refill();
    }
  }

  /** Whether one of that kind is. */
  isReady({ key }: Recipe<T>): boolean {
    return (this.#kinds.get(key)?.ready.length ?? 0) > 0;
  }

  /** Whether such a one is ready. */
  has(such: (kept: T) => boolean): boolean {
    return [...this.#kinds.values()].some(({ ready }) => ready.some(({ kept }) => such(kept)));
  }

  /** So many of it are kept ready from now on, within the bound, whoever asks for others. */
  keep(recipe: Recipe<T>, count: number): void {
    if (this.#drained !== undefined) return;
    this.#kindOf(recipe).atLeast = count;
    void this.refill();
  }

  /** Makes what is missing, in the background; resolves when nothing is. Never rejects. */
  refill(): Promise<void> {
    if (this.#drained !== undefined) return Promise.resolve();
    this.#lookAgain = true;
    this.#refilling ??= this.#refill();
    return this.#refilling;
  }

  /** What nobody wants goes, and what could not; done every few seconds. */
  sweep(): void {
    for (const kept of this.#stuck) this.#discard(kept);
    const [nowMs, planned] = [this.#nowMs(), this.#plan()];
    for (const [key, kind] of this.#kinds) {
      while (kind.ready.length > (planned.get(key) ?? 0)) {
        const surplus = kind.ready.shift();
        if (surplus === undefined) break;
        this.#count.expired++;
        this.#discard(surplus.kept);
      }
      if (kind.ready.length === 0 && kind.atLeast === 0 && kind.demand.isOver(nowMs)) this.#kinds.delete(key);
    }
    void this.refill();
  }

  stats(): PoolStats {
    const kinds = [...this.#kinds.values()];
    const warm = kinds.reduce((sum, { ready }) => sum + ready.length, 0);
    const memoryBytes = kinds.reduce((sum, { ready, recipe }) => sum + ready.length * recipe.memoryBytes, 0);
    const { warmMax } = this.#bound;
    return { warm, memoryBytes, making: this.#making, warmMax, ...this.#count, lastFailure: this.#lastFailure };
  }

  /** Nothing is kept or made any more, and what was is gone. May be called twice. */
  drain(): Promise<void> {
    this.#drained ??= this.#drain();
    return this.#drained;
  }

  async #drain(): Promise<void> {
    clearInterval(this.#timer);
    for (const { ready } of this.#kinds.values()) for (const { kept } of ready.splice(0)) this.#discard(kept);
    await this.#refilling;
    await Promise.all(this.#going);
    for (const kept of this.#stuck) this.#discard(kept); // once more; then it is for `gc` to find
    await Promise.all(this.#going);
    this.#kinds.clear();
  }

  /** The last one to ask says how it is made. */
  #kindOf(recipe: Recipe<T>): Kind<T> {
    const fresh = { recipe, demand: new Demand(this.#idleMs), ready: [], atLeast: 0, pauseMs: 0, notBeforeMs: 0 };
    const kind: Kind<T> = this.#kinds.get(recipe.key) ?? fresh;
    kind.recipe = recipe;
    this.#kinds.delete(recipe.key); // and again at the end: the first is the one that was not asked for longest
    this.#kinds.set(recipe.key, kind);
    if (this.#kinds.size > kindsMax) this.#forgetOne();
    return kind;
  }

  #forgetOne(): void {
    for (const [key, { ready, atLeast }] of this.#kinds)
      if (ready.length === 0 && atLeast === 0) return void this.#kinds.delete(key);
  }

  #plan(): ReadonlyMap<Digest, number> {
    const nowMs = this.#nowMs();
    const wishes = [...this.#kinds].map(([key, { recipe, demand, atLeast }]) => {
      const wanted = Math.max(atLeast, demand.wanted(nowMs));
      return { key, memoryBytes: recipe.memoryBytes, wanted, atLeast };
    });
    return plan(wishes, this.#bound);
  }

  async #refill(): Promise<void> {
    while (this.#lookAgain && this.#drained === undefined) {
      await this.#quiet();
      this.#lookAgain = false;
      const kind = this.#drained === undefined ? this.#lacking() : undefined;
      if (kind === undefined) continue;
      this.#lookAgain = true;
      this.#making++;
      try {
        const kept = await kind.recipe.make();
        this.#count.made++;
        this.#add(kind.recipe.key, kept);
      } catch (error) {
        this.#count.failed++;
        this.#lastFailure = messageOf(error);
        this.#pause(kind);
      } finally {
        this.#making--;
      }
    }
    this.#refilling = undefined;
  }

  /** One of which there are too few; what there is too much of makes room with the next sweep. */
  #lacking(): Kind<T> | undefined {
    const planned = this.#plan();
    const nowMs = this.#nowMs();
    for (const [key, kind] of this.#kinds) {
      if (kind.ready.length >= (planned.get(key) ?? 0) || kind.notBeforeMs > nowMs) continue;
      if (this.#hasRoomFor(kind)) return kind;
    }
    return undefined;
  }

  #hasRoomFor({ recipe }: Kind<T>): boolean {
    const { warm, memoryBytes } = this.stats();
    return warm < this.#bound.warmMax && memoryBytes + recipe.memoryBytes <= this.#bound.memoryBytes;
  }

  #add(key: Digest, kept: T): void {
    const kind = this.#kinds.get(key);
    if (kind === undefined || this.#drained !== undefined) return this.#discard(kept);
    const entry = { kept };
    kind.ready.push(entry);
    void kept.lost.then(() => {
      const at = kind.ready.indexOf(entry);
      if (at === -1) return; // taken
      kind.ready.splice(at, 1);
      this.#count.unfit++;
      this.#pause(kind); // whatever ends them may end the next one too
      this.#discard(kept);
    });
  }

  #pause(kind: Kind<T>): void {
    kind.pauseMs = Math.min(pauseMaxMs, Math.max(firstPauseMs, kind.pauseMs * 2));
    kind.notBeforeMs = this.#nowMs() + kind.pauseMs;
  }

  async #isFit(kept: T): Promise<boolean> {
    try {
      await Deadline.run(checkMs, 'checking a warm sandbox', () => kept.check(), 'sandbox_lost');
      return true;
    } catch {
      this.#count.unfit++;
      this.#discard(kept);
      return false;
    }
  }

  #discard(kept: T): void {
    this.#stuck.delete(kept);
    const gone: Promise<void> = kept
      .discard()
      .catch(() => void this.#stuck.add(kept))
      .finally(() => this.#going.delete(gone));
    this.#going.add(gone);
  }
}

interface Kind<T extends Kept> {
  recipe: Recipe<T>;
  readonly demand: Demand;
  /** The one that waits longest first. */
  readonly ready: { readonly kept: T }[];
  atLeast: number;
  /** After a failure. */
  pauseMs: number;
  notBeforeMs: number;
}
