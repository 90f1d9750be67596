import type { Draft, Entry } from './entry.ts';

type Told = Extract<Entry | Draft, { type: 'egress.decided' | 'egress.ended' }>;

/** More than any run has under way; a bound on what is remembered of a file. */
const openMax = 100_000;

/**
 * What is told of egress: decisions are numbered upwards, and what was let through has exactly one end. Names, and what was
 * denied, have none. As many are open as connections and requests are under way.
 */
export class EgressStory {
  readonly #open = new Set<number>();
  #last = 0;

  /** Highest number so far. */
  get last(): number {
    return this.#last;
  }

  /** Let through, and not ended yet. */
  get open(): readonly number[] {
    return [...this.#open];
  }

  /** What is wrong about an entry at this place; undefined when nothing is. */
  findOdd(entry: Told): string | undefined {
    const { id } = entry.data;
    if (entry.type === 'egress.ended')
      return this.#open.has(id) ? undefined : `egress ${id} is not under way, and ends`;
    return id > this.#last ? undefined : `egress ${id} is decided after ${this.#last}`;
  }

  /** The same, and goes on from there. */
  push(entry: Told): string | undefined {
    const odd = this.findOdd(entry);
    const { id } = entry.data;
    if (entry.type === 'egress.ended') this.#open.delete(id);
    else {
      this.#last = Math.max(this.#last, id);
      const { kind, decision } = entry.data;
      const goesOn = kind !== 'name' && decision !== 'denied';
      if (odd === undefined && goesOn && this.#open.size < openMax) this.#open.add(id);
    }
    return odd;
  }
}
