import type { Attempts, Place, Way } from '../verification.ts';

/** How often a gate was run in each place and way, and how that ended. */
export class Observed {
  readonly #counts = new Map<string, { where: Place; how: Way; runs: number; failed: number }>();
  #failedWithTrouble = 0;
  #passedWithTrouble = 0;

  /** `networkTrouble`: something outside did not answer it, or was refused to it. */
  add(where: Place, how: Way, failed: boolean, networkTrouble: boolean): void {
    const key = `${where}/${how}`;
    const counts = this.#counts.get(key) ?? { where, how, runs: 0, failed: 0 };
    counts.runs++;
    if (failed) counts.failed++;
    this.#counts.set(key, counts);
    if (!networkTrouble || where !== 'candidate' || how !== 'same') return;
    if (failed) this.#failedWithTrouble++;
    else this.#passedWithTrouble++;
  }

  of(where: Place, how: Way): Pick<Attempts, 'runs' | 'failed'> {
    return this.#counts.get(`${where}/${how}`) ?? { runs: 0, failed: 0 };
  }

  /** In the order in which they were first made. */
  list(): readonly Attempts[] {
    return [...this.#counts.values()].map((one) => ({ ...one }));
  }

  /** Whatever failed had trouble with the network, and nothing that passed had. */
  get failsWithTroubleOnly(): boolean {
    return this.#failedWithTrouble > 0 && this.#failedWithTrouble === this.of('candidate', 'same').failed
      ? this.#passedWithTrouble === 0
      : false;
  }
}
