/**
 * The newest of what there is of each team, within one bound over all. Promises:
 *  - who has the most of it gives up its oldest first, so that no team pushes out what is another's while it keeps more itself;
 *  - positions count what is the team's own, and tell nothing of others.
 */
export class TeamLog<T> {
  readonly #keptMax: number;
  readonly #kept = new Map<string, Kept<T>>();
  #size = 0;

  constructor(keptMax: number) {
    this.#keptMax = keptMax;
  }

  push(team: string, item: T): void {
    const kept = this.#kept.get(team) ?? { items: [], last: 0 };
    this.#kept.set(team, kept);
    kept.items.push(item);
    kept.last += 1;
    this.#size += 1;
    while (this.#size > this.#keptMax) this.#shrink();
  }

  /** Position of the newest; 0 before the first. */
  last(team: string): number {
    return this.#kept.get(team)?.last ?? 0;
  }

  /** At most `max` of those after a position, oldest first; undefined: some of them are no longer kept. */
  after(team: string, position: number, max: number): readonly T[] | undefined {
    const { items, last } = this.#kept.get(team) ?? { items: [], last: 0 };
    const gone = last - items.length;
    return position < gone ? undefined : items.slice(position - gone, position - gone + max);
  }

  /** Oldest first. */
  of(team: string): readonly T[] {
    return this.#kept.get(team)?.items ?? [];
  }

  #shrink(): void {
    let most: Kept<T> | undefined;
    for (const kept of this.#kept.values())
      if (most === undefined || kept.items.length > most.items.length) most = kept;
    if (most === undefined) return;
    this.#size -= most.items.splice(0, Math.ceil(most.items.length / shareGivenUp)).length;
  }
}

interface Kept<T> {
  readonly items: T[];
  last: number;
}

/** Part of its own that a team gives up at once: to take one at a time from the front of an array costs too much. */
const shareGivenUp = 8;
