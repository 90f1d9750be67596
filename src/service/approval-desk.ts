import type { ApprovalRequest, Approver, Verdict } from '../approvals/approval.ts';
import type { ApprovalFilter, ApprovalView, DecideApproval } from '../contract/approval-view.ts';
import { RunnerError } from '../errors.ts';
import { personOf } from '../promotion/review.ts';
import type { RunRow, Runs } from '../store/runs.ts';
import type { VerdictRow, Verdicts } from '../store/verdicts.ts';
import { whyNotDecide } from './access.ts';
import type { Principal } from './principal.ts';
import { TeamLog } from './team-log.ts';

interface Pending {
  readonly request: ApprovalRequest;
  readonly row: RunRow;
  readonly resolve: (verdicts: readonly Verdict[]) => void;
}

type OnChange = (type: 'approval.asked' | 'approval.decided', view: ApprovalView, row: RunRow) => void;

/** Over all teams. */
const decidedMax = 2_000;
const listedMax = 500;

/**
 * Where a service's runs ask people. Promises:
 *  - an answer is in the store before it counts, and counts once for each person, under however many spellings;
 *  - nobody who opened the run or takes part in it counts, whenever they did it;
 *  - another team's approval is answered as one that does not exist.
 */
export class ApprovalDesk {
  readonly #verdicts: Verdicts;
  readonly #runs: Runs;
  readonly #pending = new Map<string, Pending>();
  /** What no team pushes out of another's. */
  readonly #decided = new TeamLog<ApprovalView>(decidedMax);
  #onChange: OnChange = () => undefined;

  constructor(store: { readonly verdicts: Verdicts; readonly runs: Runs }) {
    this.#verdicts = store.verdicts;
    this.#runs = store.runs;
  }

  onChange(listener: OnChange): void {
    this.#onChange = listener;
  }

  get pending(): number {
    return this.#pending.size;
  }

  /** For the runner: resolves when enough have answered, or somebody has said no. */
  readonly ask: Approver = (request, signal) => {
    const row = this.#runs.find(request.run);
    if (row === undefined) return Promise.resolve([]); // no run of this service: there is nobody to ask
    return new Promise((resolve) => {
      const entry: Pending = { request, row, resolve };
      this.#pending.set(request.id, entry);
      signal.addEventListener('abort', () => this.#finish(entry, 'expired', []), { once: true });
      this.#onChange('approval.asked', this.#viewOf(entry, 'pending'), row);
      this.#settle(entry); // what was answered before a restart
    });
  };

  list(principal: Principal, { run, state }: ApprovalFilter): readonly ApprovalView[] {
    const pending = [...this.#pending.values()]
      .filter(({ row }) => row.team === principal.team)
      .map((entry) => this.#viewOf(entry, 'pending'));
    const decided = this.#decided.of(principal.team).slice(-listedMax);
    const wanted = state === 'pending' ? pending : state === 'decided' ? decided : [...pending, ...decided];
    return run === undefined ? wanted : wanted.filter((view) => view.run === run);
  }

  /** Throws `not_found`. */
  get(principal: Principal, id: string): ApprovalView {
    const entry = this.#pending.get(id);
    if (entry?.row.team === principal.team) return this.#viewOf(entry, 'pending');
    const decided = this.#decided.of(principal.team).findLast((view) => view.id === id);
    if (decided !== undefined) return decided;
    throw new RunnerError('not_found', `there is no approval ${JSON.stringify(id.slice(0, 64))}`);
  }

  /** Throws `not_found`, `conflict` (decided, or answered by this identity before), `forbidden`, `invalid_request`. */
  decide(principal: Principal, id: string, { approve, reason }: DecideApproval, at: string): ApprovalView {
    const { run, state } = this.get(principal, id);
    const entry = this.#pending.get(id);
    if (entry === undefined) throw new RunnerError('conflict', `approval ${id} of run ${run} is ${state} already`);
    const refusal = whyNotDecide(principal, entry.row, this.#runs.callers(run));
    if (refusal !== undefined) throw new RunnerError('forbidden', refusal);
    if (approve && entry.request.reasonRequired && reason.trim() === '')
      throw new RunnerError('invalid_request', `approval ${id} (${entry.request.category}) wants a reason`);
    const { identity } = principal;
    if (!this.#verdicts.add({ approvalId: id, runId: run, identity, approve, reason, at }))
      throw new RunnerError('conflict', `${identity} has answered approval ${id} before, and that answer stands`);
    this.#settle(entry);
    return this.get(principal, id);
  }

  #settle(entry: Pending): void {
    const counted = this.#counted(entry);
    const verdicts = counted.map(({ approve, identity, reason }) => ({ approve, by: identity, reason }));
    if (counted.some(({ approve }) => !approve)) this.#finish(entry, 'denied', verdicts);
    else if (new Set(verdicts.map(({ by }) => personOf(by))).size >= entry.request.quorum)
      this.#finish(entry, 'approved', verdicts);
  }

  #finish(entry: Pending, state: 'approved' | 'denied' | 'expired', verdicts: readonly Verdict[]): void {
    const { request, row, resolve } = entry;
    if (this.#pending.get(request.id) !== entry) return;
    this.#pending.delete(request.id);
    const view = this.#viewOf(entry, state);
    this.#decided.push(row.team, view);
    resolve(verdicts);
    this.#onChange('approval.decided', view, row);
  }

  /** A call made after the answer takes it back as well. */
  #counted({ request, row }: Pending): readonly VerdictRow[] {
    const callers = this.#runs.callers(row.id);
    return this.#verdicts.of(request.id).filter((verdict) => whyNotDecide(verdict, row, callers) === undefined);
  }

  #viewOf({ request }: Pending, state: ApprovalView['state']): ApprovalView {
    const verdicts = this.#verdicts
      .of(request.id)
      .map(({ identity: by, approve, reason, at }) => ({ by, approve, reason, at }));
    return { ...request, state, verdicts };
  }
}
