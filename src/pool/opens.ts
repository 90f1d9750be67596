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
  /** Who waits, by team; the first team is served next. */
  readonly #line = new Map<string, Set<Waiting>>();
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

  /**
   * Teams that wait are served one after the other, within a team first come first served; what names no team is one too. Half of
   * the line is as much as a team by name may have of it. Throws `queue_full`, or the reason of `signal` while it waits.
   */
  async turn<T>(work: () => Promise<T>, signal?: AbortSignal, team?: string): Promise<T> {
    await this.#take(signal, team);
    const startMs = performance.now();
    try {
      return await work();
    } finally {
      this.#turnMs += (performance.now() - startMs - this.#turnMs) / 8;
      const next = this.#next();
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
    const [opening, waiting, refused] = [this.#under, this.#waiting, this.#refused];
    return { opening, waiting, atOnce: this.#atOnce, waitingMax: this.#waitingMax, refused };
  }

  get #waiting(): number {
    return [...this.#line.values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** Whose team has waited longest for one; it is the last in the round then. */
  #next(): Waiting | undefined {
    for (const [team, waiting] of this.#line) {
      this.#line.delete(team);
      const [first] = waiting;
      if (first === undefined) continue;
      waiting.delete(first);
      if (waiting.size > 0) this.#line.set(team, waiting);
      return first;
    }
    return undefined;
  }

  async #take(signal: AbortSignal | undefined, team: string | undefined): Promise<void> {
    signal?.throwIfAborted();
    if (this.#turns < this.#atOnce) {
      this.#turns++;
      return;
    }
    const name = team ?? '';
    const theirs = this.#line.get(name) ?? new Set();
    if (this.#waiting >= this.#waitingMax) throw this.#full(`${this.#waiting} wait, which is all that may`);
    if (team !== undefined && theirs.size >= Math.ceil(this.#waitingMax / 2))
      throw this.#full(`${theirs.size} of team ${team} wait, which is all of one team that may`);
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        theirs.delete(waiting);
        if (theirs.size === 0) this.#line.delete(name);
        reject(signal?.reason as Error);
      };
      const waiting: Waiting = {
        go: () => {
          signal?.removeEventListener('abort', leave);
          resolve();
        },
      };
      signal?.addEventListener('abort', leave, { once: true });
      this.#line.set(name, theirs.add(waiting));
    });
  }

  #full(why: string): RunnerError {
    this.#refused++;
    const retryAfterMs = Math.ceil(Math.max(100, (this.#turnMs * (this.#waiting + 1)) / this.#atOnce));
    return new RunnerError(
      'queue_full',
      `${this.#atOnce} runs are being opened and ${why}; ask again in ${retryAfterMs} ms`,
      { retryAfterMs },
    );
  }
}

interface Waiting {
  readonly go: () => void;
}
