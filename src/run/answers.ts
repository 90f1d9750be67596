import { RunnerError } from '../errors.ts';
import type { ToolResult } from '../tools/tool-result.ts';

const keptUnitsMax = 32 * 1024 * 1024;

/**
 * The same call id twice is the same call. Answers are kept for that, up to a bound of memory; an id whose answer has been
 * forgotten is still known, and never runs again.
 */
export class Answers {
  readonly #kept = new Map<string, Promise<ToolResult>>();
  readonly #units = new Map<string, number>();
  readonly #forgotten = new Set<string>();
  #total = 0;

  /** What was answered, is being answered, or is answered now by `work`. */
  once(callId: string, work: () => Promise<ToolResult>): Promise<ToolResult> {
    const known = this.#kept.get(callId);
    if (known !== undefined) return known;
    if (this.#forgotten.has(callId)) {
      const message = `call ${callId} was made before and its answer is no longer kept; the journal has its outcome, the output tool what it printed`;
      return Promise.reject(new RunnerError('call_exists', message));
    }
    const answer = work();
    this.#kept.set(callId, answer);
    answer.then(
      (result) => this.#weigh(callId, unitsOf(result)),
      () => this.#weigh(callId, 0),
    );
    return answer;
  }

  #weigh(callId: string, units: number): void {
    this.#units.set(callId, units);
    this.#total += units;
    for (const [oldest, its] of this.#units) {
      if (this.#total <= keptUnitsMax) return;
      this.#units.delete(oldest);
      this.#kept.delete(oldest);
      this.#forgotten.add(oldest);
      this.#total -= its;
    }
  }
}

/** Length of all text in it, in UTF-16 units: near enough to what it holds in memory. */
function unitsOf(value: unknown): number {
  if (typeof value === 'string') return value.length;
  if (typeof value !== 'object' || value === null) return 8;
  return Object.values(value).reduce<number>((sum, member) => sum + unitsOf(member), 16);
}
