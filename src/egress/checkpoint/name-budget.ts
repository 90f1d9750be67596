export interface NameLimits {
  /** Distinct names under suffix rules that may be resolved. */
  readonly maxNames: number;
  /** Distinct names that no rule lists. */
  readonly maxUnlisted: number;
  readonly onExcess: 'deny' | 'stop_run';
}

/**
 * Distinct names of a run. A name under a suffix rule is chosen by the sandbox and read by whoever serves the suffix: each
 * new one is a message. So is a refused one to a reader of the record. Both are counted, never more is remembered than allowed.
 */
export class NameBudget {
  readonly #limits: NameLimits;
  readonly #onStop: (reason: string) => void;
  readonly #suffixed = new Set<string>();
  readonly #unlisted = new Set<string>();
  #stopped = false;

  constructor(limits: NameLimits, onStop: (reason: string) => void) {
    this.#limits = limits;
    this.#onStop = onStop;
  }

  /** Why this name under a suffix rule is one too many; undefined where it is not. */
  takeSuffixed(host: string): string | undefined {
    const { maxNames } = this.#limits;
    if (add(this.#suffixed, host, maxNames)) return undefined;
    const reason = `it would be the ${maxNames + 1}th name under suffix rules, and a run may ask for ${maxNames}`;
    this.#excess(reason);
    return reason;
  }

  /** Refused either way; false once there are too many of them to be told one by one. */
  takeUnlisted(host: string): boolean {
    const { maxUnlisted } = this.#limits;
    if (add(this.#unlisted, host, maxUnlisted)) return true;
    this.#excess(`more than ${maxUnlisted} distinct names were asked for that no rule lists`);
    return false;
  }

  #excess(reason: string): void {
    if (this.#limits.onExcess !== 'stop_run' || this.#stopped) return;
    this.#stopped = true;
    this.#onStop(reason);
  }
}

function add(names: Set<string>, name: string, most: number): boolean {
  if (names.has(name)) return true;
  if (names.size >= most) return false;
  names.add(name);
  return true;
}
