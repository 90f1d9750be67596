/**
 * Small work that comes from a sandbox by the thousand, done a little in each turn of the event loop: a flood of it takes the time
 * of its own sandbox, not that of others. What waits is bounded; what is too much is dropped.
 */
export class Turns {
  readonly #perTurn: number;
  readonly #waitingMax: number;
  readonly #waiting: (() => void)[] = [];
  #planned = false;

  constructor({ perTurn, waitingMax }: { readonly perTurn: number; readonly waitingMax: number }) {
    this.#perTurn = perTurn;
    this.#waitingMax = waitingMax;
  }

  /** False: it is dropped. `work` must not throw. */
  take(work: () => void): boolean {
    if (this.#waiting.length >= this.#waitingMax) return false;
    this.#waiting.push(work);
    this.#plan();
    return true;
  }

  #plan(): void {
    if (this.#planned || this.#waiting.length === 0) return;
    this.#planned = true;
    setImmediate(() => {
      this.#planned = false;
      for (const work of this.#waiting.splice(0, this.#perTurn)) work();
      this.#plan();
    });
  }
}
