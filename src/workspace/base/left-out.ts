export type LeftOutReason =
  | 'denied'
  | 'out_of_scope'
  | 'ignored'
  | 'submodule'
  | 'nested_repository'
  | 'special_file'
  | 'link_leaves_tree'
  | 'missing';

export interface LeftOut {
  /** A directory that was not entered counts once. */
  readonly counts: Readonly<Partial<Record<LeftOutReason, number>>>;
  /** The first ones. */
  readonly examples: readonly { readonly path: string; readonly reason: LeftOutReason }[];
}

export class LeftOutTally {
  readonly #counts = new Map<LeftOutReason, number>();
  readonly #examples: { path: string; reason: LeftOutReason }[] = [];
  readonly #examplesMax: number;

  constructor(examplesMax: number) {
    this.#examplesMax = examplesMax;
  }

  add(path: string, reason: LeftOutReason): void {
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1);
    if (this.#examples.length < this.#examplesMax) this.#examples.push({ path, reason });
  }

  report(): LeftOut {
    return { counts: Object.fromEntries(this.#counts), examples: [...this.#examples] };
  }
}
