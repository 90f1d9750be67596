import { RunnerError } from '../errors.ts';
import { idPattern } from '../ids.ts';
import { personOf } from '../promotion/review.ts';
import type { Scope } from '../store/key-row.ts';
import type { RunRow, Runs } from '../store/runs.ts';
import type { Principal } from './principal.ts';

/**
 * Who may do what. Promises:
 *  - a team sees its own runs; another team's is answered as one that does not exist: the same words, after the same work;
 *  - a scope is asked for before anything is looked up;
 *  - who opened a run, or takes part in it (`participants.ts`), answers no approval of it, whatever its scopes, its keys, and the
 *    spelling of its name.
 */
export class Access {
  readonly #runs: Runs;

  constructor(runs: Runs) {
    this.#runs = runs;
  }

  /** Throws `forbidden`. */
  require(principal: Principal, scope: Scope): void {
    if (principal.scopes.has(scope)) return;
    const has = [...principal.scopes].join(', ') || 'none';
    throw new RunnerError('forbidden', `this needs a key with the scope ${scope}; the key in use has ${has}`);
  }

  /** Throws `run_not_found`. */
  find(principal: Principal, runId: string): RunRow {
    const row = idPattern.test(runId) ? this.#runs.find(runId) : undefined;
    if (row !== undefined && row.team === principal.team) return row;
    throw new RunnerError('run_not_found', `there is no run ${JSON.stringify(runId.slice(0, 64))}`);
  }

  /** Throws `forbidden` when the policy is not one that this key may open runs with; `text`: one that comes along. */
  mayOpen(principal: Principal, policy: { readonly name: string } | 'text'): void {
    this.require(principal, 'run:open');
    if (principal.policies === 'any') return;
    if (policy !== 'text' && principal.policies.includes(policy.name)) return;
    const may = principal.policies.join(', ') || 'none';
    const what =
      policy === 'text' ? 'with a policy of its own' : `with the policy ${JSON.stringify(policy.name.slice(0, 128))}`;
    throw new RunnerError('forbidden', `this key may not open a run ${what}; it may with: ${may}`);
  }

  /** Throws `forbidden`, or `run_not_found` for another team's. */
  mayDecide(principal: Principal, runId: string): RunRow {
    this.require(principal, 'approve');
    const row = this.find(principal, runId);
    const refusal = whyNotDecide(principal, row, this.#runs.callers(runId));
    if (refusal !== undefined) throw new RunnerError('forbidden', refusal);
    return row;
  }
}

/** What stands against this identity's answering for that run, however its name is spelled. */
export function whyNotDecide(
  { identity }: Pick<Principal, 'identity'>,
  run: Pick<RunRow, 'id' | 'identity'>,
  callers: ReadonlySet<string>,
): string | undefined {
  const person = personOf(identity);
  const isIn = [...callers].some((caller) => personOf(caller) === person);
  const what = personOf(run.identity) === person ? 'opened' : isIn ? 'takes part in' : undefined;
  return what && `${identity} ${what} run ${run.id}, so somebody else has to answer for it`;
}
