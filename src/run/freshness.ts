import type { ContextTerms } from '../policy/policy.ts';
import type { Decision } from '../policy/decisions/decide.ts';

/** What is missing, for the gate to refuse with. */
export interface Stale {
  readonly rule: string;
  readonly reason: string;
  readonly hint: string;
}

/** Whether what the harness has last said of its agent's beliefs is recent enough for a call. */
export class Freshness {
  /** Calls that were let in since; undefined: nothing was said yet. */
  #age: number | undefined;

  /** `age`: of one that was attached before, how many calls were let in since. */
  attached(age = 0): void {
    this.#age = age;
  }

  called(): void {
    if (this.#age !== undefined) this.#age += 1;
  }

  /** Undefined: the policy asks for none before such a call, or there is one. */
  findStale(
    terms: ContextTerms | undefined,
    { approvals, tags }: Pick<Decision, 'approvals' | 'tags'>,
  ): Stale | undefined {
    if (terms === undefined) return undefined;
    const named = new Set([...approvals.map(({ category }) => category), ...tags]);
    const category = terms.freshBefore.find((name) => named.has(name));
    const { maxAgeCalls } = terms;
    if (category === undefined) return undefined;
    if (this.#age !== undefined && (maxAgeCalls === null || this.#age < maxAgeCalls)) return undefined;
    const reason =
      this.#age === undefined
        ? `the policy asks what the agent believes before a call of category ${category}, and no context snapshot is attached`
        : `the policy asks what the agent believes before a call of category ${category}, and the last context snapshot is ${this.#age} calls old (${maxAgeCalls} are possible)`;
    const hint =
      'Attach a context snapshot (POST /v1/runs/{run}/context; attach_context over MCP), then make the call again with a new id.';
    return { rule: 'context.fresh_before', reason, hint };
  }
}
