import type { Welcome } from './arrivals.ts';
import type { Ledger, LedgerLine } from './ledger.ts';

const reserved = 4_096;
/** The private group of a call is its number modulo this (docs/protocol.md): two live calls must not share one. */
const groups = 40_000;

/** Numbers of a sandbox's calls: never used twice, also after a crash. */
export class CallNumbers {
  readonly #ledger: Ledger;
  #last: number;
  #upTo: number;

  private constructor(ledger: Ledger, last: number) {
    this.#ledger = ledger;
    this.#last = last;
    this.#upTo = last;
  }

  static fresh(ledger: Ledger): CallNumbers {
    return new CallNumbers(ledger, 0);
  }

  static after(ledger: Ledger, lines: readonly LedgerLine[], welcome: Welcome): CallNumbers {
    let last = 0;
    for (const line of lines) if (line.kind === 'numbers') last = Math.max(last, line.upTo);
    for (const entry of welcome.calls) last = Math.max(last, entry.call);
    return new CallNumbers(ledger, last);
  }

  take(live: readonly number[]): number {
    const taken = new Set(live.map((number) => number % groups));
    do this.#last++;
    while (taken.has(this.#last % groups));
    if (this.#last > this.#upTo) {
      this.#upTo = this.#last + reserved;
      this.#ledger.note({ kind: 'numbers', upTo: this.#upTo });
    }
    return this.#last;
  }
}
