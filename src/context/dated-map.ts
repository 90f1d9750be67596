/** A map that tells what it held at earlier moments too, without a copy for each of them: only what was set since takes room. */
export class DatedMap<V> {
  readonly #all = new Map<string, { readonly moment: number; value: V }[]>();
  #moment = 0;

  set(key: string, value: V): void {
    const dated = this.#all.get(key);
    const last = dated?.at(-1);
    if (dated === undefined) this.#all.set(key, [{ moment: this.#moment, value }]);
    else if (last?.moment === this.#moment) last.value = value;
    else dated.push({ moment: this.#moment, value });
  }

  /** Without a moment: as it is. */
  get(key: string, moment = this.#moment): V | undefined {
    return this.#all.get(key)?.findLast((dated) => dated.moment <= moment)?.value;
  }

  *entries(moment = this.#moment): Iterable<readonly [string, V]> {
    for (const key of this.#all.keys()) {
      const value = this.get(key, moment);
      if (value !== undefined) yield [key, value];
    }
  }

  /** Names what it holds now, whatever is set afterwards. */
  mark(): number {
    return this.#moment++;
  }
}
