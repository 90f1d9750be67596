import { RunnerError } from '../errors.ts';

export interface FairTurnsOptions {
  /** How many have a turn at once. */
  readonly atOnce: number;
  /** How many of one team may wait; more are refused. */
  readonly waitingMax: number;
  /** How long one waits before it is refused after all. */
  readonly waitMaxMs: number;
  /** How many turns in a row a team has, whole and at least 1; default 1. */
  readonly weightOf?: (team: string) => number;
  /** Milliseconds that never go back; default `performance.now`. */
  readonly monotonicMs?: () => number;
}

export interface Turn {
  /** Lets the next one in. Twice is fine. */
  give(): void;
}

/**
 * Teams take turns. Promises:
 *  - never more than `atOnce` at once, and of one team never all of them, so that a team that holds its turns for long leaves
 *    some to others (where there is more than one turn to have);
 *  - teams that wait are served one after the other, each as often as its weight says: however many of one team wait, the next of
 *    another team comes after one round;
 *  - within a team, first come first served;
 *  - nobody waits without end: a queue that is full, or takes too long, is `queue_full` with a time to try again.
 */
export class FairTurns {
  readonly #options: Required<FairTurnsOptions>;
  readonly #teamMax: number;
  /** In the order in which they are served; only those that wait. */
  readonly #waiting = new Map<string, Set<Waiter>>();
  readonly #held = new Map<string, number>();
  #taken = 0;
  /** How many turns the team that was served last has had in a row. */
  #row = { team: '', length: 0 };
  /** Mean length of a turn of late. */
  #turnMs = 20;

  constructor(options: FairTurnsOptions) {
    this.#options = { weightOf: () => 1, monotonicMs: () => performance.now(), ...options };
    this.#teamMax = Math.max(1, options.atOnce - Math.ceil(options.atOnce / 4));
  }

  /** Throws `queue_full`, or the signal's reason. */
  async take(team: string, signal?: AbortSignal): Promise<Turn> {
    signal?.throwIfAborted();
    if (!this.#waiting.has(team) && this.#isFree(team)) return this.#begin(team);
    const queue = this.#waiting.get(team) ?? new Set();
    if (queue.size >= this.#options.waitingMax) throw this.#full(team, `${queue.size} of its calls wait already`);
    return new Promise<Turn>((resolve, reject) => {
      const leave = (error: unknown): void => {
        this.#leave(team, waiter);
        reject(error instanceof Error ? error : new Error(String(error)));
      };
      const { waitMaxMs } = this.#options;
      const timer = setTimeout(
        () => leave(this.#full(team, `its turn did not come within ${waitMaxMs} ms`)),
        waitMaxMs,
      );
      const onAbort = (): void => leave(signal?.reason);
      signal?.addEventListener('abort', onAbort, { once: true });
      const settle = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      const waiter: Waiter = { begin: (turn) => resolve(turn), settle };
      queue.add(waiter);
      this.#waiting.set(team, queue);
    });
  }

  async run<T>(team: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const turn = await this.take(team, signal);
    try {
      return await work();
    } finally {
      turn.give();
    }
  }

  stats(): { readonly running: number; readonly waiting: number; readonly teamsWaiting: number } {
    const waiting = [...this.#waiting.values()].reduce((sum, queue) => sum + queue.size, 0);
    return { running: this.#taken, waiting, teamsWaiting: this.#waiting.size };
  }

  #isFree(team: string): boolean {
    return this.#taken < this.#options.atOnce && this.#heldBy(team) < this.#teamMax;
  }

  #heldBy(team: string): number {
    return this.#held.get(team) ?? 0;
  }

  #begin(team: string): Turn {
    this.#row = { team, length: this.#row.team === team ? this.#row.length + 1 : 1 };
    this.#taken++;
    this.#held.set(team, this.#heldBy(team) + 1);
    const startedMs = this.#options.monotonicMs();
    let given = false;
    return {
      give: () => {
        if (given) return;
        given = true;
        this.#turnMs += (this.#options.monotonicMs() - startedMs - this.#turnMs) / 16;
        this.#end(team);
      },
    };
  }

  #end(team: string): void {
    this.#taken--;
    const left = this.#heldBy(team) - 1;
    if (left === 0) this.#held.delete(team);
    else this.#held.set(team, left);
    this.#serve();
  }

  #serve(): void {
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      const [team, waiter] = next;
      this.#leave(team, waiter);
      waiter.begin(this.#begin(team));
      this.#passOn(team);
    }
  }

  /** The first team in the round that may have another turn. */
  #next(): readonly [string, Waiter] | undefined {
    for (const [team, queue] of this.#waiting) {
      const [first] = queue;
      if (first !== undefined && this.#isFree(team)) return [team, first];
    }
    return undefined;
  }

  /** To the end of the round, once it has had its turns. */
  #passOn(team: string): void {
    const queue = this.#waiting.get(team);
    if (queue === undefined || this.#row.length < this.#options.weightOf(team)) return;
    this.#row = { team: '', length: 0 };
    this.#waiting.delete(team);
    this.#waiting.set(team, queue);
  }

  #leave(team: string, waiter: Waiter): void {
    waiter.settle();
    const queue = this.#waiting.get(team);
    queue?.delete(waiter);
    if (queue?.size === 0) this.#waiting.delete(team);
  }

  #full(team: string, why: string): RunnerError {
    const eachMs = (this.#turnMs * Math.max(1, this.#waiting.size)) / this.#options.atOnce;
    const retryAfterMs = Math.min(60_000, Math.max(50, Math.ceil(eachMs)));
    return new RunnerError('queue_full', `team ${team}: ${why}; try again in ${retryAfterMs} ms`, { retryAfterMs });
  }
}

interface Waiter {
  readonly begin: (turn: Turn) => void;
  /** It waits no longer. */
  readonly settle: () => void;
}
