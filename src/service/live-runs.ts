import type { CloseReason } from '../runner.ts';
import type { RunRow, Runs } from '../store/runs.ts';
import type { EventLog } from './event-log.ts';
import { OpenRun } from './open-run.ts';
import { costOf, type Quotas } from './quota.ts';
import type { OpenedRun } from './run-views.ts';

/** How long after its wall clock a run is closed that nobody has closed. */
const abandonedMs = 60_000;
const timerMax = 2 ** 31 - 1;
/** What could not be closed is removed again so often, so long apart; after that it is for the next service to find. */
const removals = { atMost: 10, everyMs: 30_000 };

export interface LiveRunsParts {
  readonly rows: Runs;
  readonly events: EventLog;
  readonly quotas: Quotas;
  /** Removes what may be left of a run that could not be closed. Twice is fine. */
  readonly closeLost: (id: string, reason: string) => Promise<void>;
}

/**
 * The runs that are open in this process. Promises:
 *  - each is in the store as open before it is found here, and as closed once it is;
 *  - one whose sandbox is lost, that was stopped, or whose time is over, is closed though nobody asks;
 *  - one that could not be closed is here, and counts, until nothing of it is left, or so many tries to remove it have failed.
 */
export class LiveRuns {
  readonly #rows: Runs;
  readonly #events: EventLog;
  readonly #quotas: Quotas;
  readonly #closeLost: LiveRunsParts['closeLost'];
  readonly #open = new Map<string, OpenRun>();

  constructor({ rows, events, quotas, closeLost }: LiveRunsParts) {
    this.#rows = rows;
    this.#events = events;
    this.#quotas = quotas;
    this.#closeLost = closeLost;
  }

  get(id: string): OpenRun | undefined {
    return this.#open.get(id);
  }

  get size(): number {
    return this.#open.size;
  }

  admit(run: OpenedRun, opening: RunRow): OpenRun {
    const row = { ...opening, state: 'open' as const };
    this.#rows.update(row.id, { state: 'open' });
    this.#quotas.adopt(row, row.id, costOf(run.policy.policy));
    const entry = new OpenRun(run, row);
    for (const caller of this.#rows.callers(row.id)) entry.callers.add(caller);
    this.#open.set(run.id, entry);
    const { team, identity: by, policy } = row;
    this.#events.push({ type: 'run.opened', at: now(), run: run.id, team, policy, by }, row);
    const leftMs = Math.min(timerMax, run.remaining().wallClockMs + abandonedMs);
    const abandon = (): void => void this.close(entry, 'failed', 'its time was over').catch(() => undefined);
    const timer = setTimeout(abandon, leftMs).unref();
    void run.lost.then(({ code, reason }) => {
      clearTimeout(timer);
      // One that was stopped by what watches over it has been closed by nobody here.
      const isStopped = code === 'run_not_open' && run.isClosing;
      if (code !== 'run_not_open' || isStopped) this.close(entry, 'failed', reason).catch(() => undefined);
    });
    return entry;
  }

  /** Twice is fine. */
  close(entry: OpenRun, reason: CloseReason, summary: string): Promise<void> {
    entry.closing ??= this.#close(entry, reason, summary);
    return entry.closing;
  }

  async closeAll(summary: string): Promise<void> {
    await Promise.allSettled([...this.#open.values()].map((entry) => this.close(entry, 'cancelled', summary)));
  }

  recordClosed(runId: string, outcome: string, summary = ''): void {
    this.#quotas.close(runId);
    this.#rows.update(runId, { state: 'closed', closedAt: now(), outcome, summary: summary || null });
    const row = this.#rows.find(runId);
    if (row === undefined) return;
    this.#events.push({ type: 'run.closed', at: now(), run: runId, team: row.team, outcome }, row);
  }

  async #close({ run }: OpenRun, reason: CloseReason, summary: string): Promise<void> {
    try {
      await run.close(reason, summary);
    } catch (error) {
      await this.#remove(run, removals.atMost);
      throw error;
    }
    this.#forget(run.id, run.outcome ?? reason, run.summary);
  }

  /** Its sandbox may live still. */
  async #remove(run: OpenedRun, times: number): Promise<void> {
    try {
      await this.#closeLost(run.id, 'it did not close');
    } catch {
      if (times > 1) {
        setTimeout(() => void this.#remove(run, times - 1).catch(() => undefined), removals.everyMs).unref();
        return;
      }
    }
    // What is on record stands: its sandbox alone was in the way.
    if (run.outcome === undefined) this.#forget(run.id, 'failed', 'it did not close');
    else this.#forget(run.id, run.outcome, run.summary);
  }

  #forget(id: string, outcome: string, summary = ''): void {
    try {
      this.recordClosed(id, outcome, summary);
    } finally {
      this.#open.delete(id);
    }
  }
}

function now(): string {
  return new Date().toISOString();
}
