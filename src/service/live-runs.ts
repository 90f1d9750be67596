import type { CloseReason } from '../runner.ts';
import type { RunRow, Runs } from '../store/runs.ts';
import type { EventLog } from './event-log.ts';
import { OpenRun } from './open-run.ts';
import { costOf, type Quotas } from './quota.ts';
import type { OpenedRun } from './run-views.ts';

/** How long after its wall clock a run is closed that nobody has closed. */
const abandonedMs = 60_000;
const timerMax = 2 ** 31 - 1;

/**
 * The runs that are open in this process. Promises: each is in the store as open before it is found here, and as closed once it is;
 * one whose sandbox is lost, or whose time is over, is closed though nobody asks.
 */
export class LiveRuns {
  readonly #rows: Runs;
  readonly #events: EventLog;
  readonly #quotas: Quotas;
  readonly #open = new Map<string, OpenRun>();

  constructor(rows: Runs, events: EventLog, quotas: Quotas) {
    this.#rows = rows;
    this.#events = events;
    this.#quotas = quotas;
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
      if (code !== 'run_not_open') this.close(entry, 'failed', reason).catch(() => undefined);
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

  recordClosed(runId: string, outcome: string): void {
    this.#quotas.close(runId);
    this.#rows.update(runId, { state: 'closed', closedAt: now(), outcome });
    const row = this.#rows.find(runId);
    if (row === undefined) return;
    this.#events.push({ type: 'run.closed', at: now(), run: runId, team: row.team, outcome }, row);
  }

  async #close({ run }: OpenRun, reason: CloseReason, summary: string): Promise<void> {
    try {
      await run.close(reason, summary);
      this.recordClosed(run.id, run.candidate === undefined ? 'lost' : reason);
    } catch (error) {
      this.recordClosed(run.id, 'failed');
      throw error;
    } finally {
      this.#open.delete(run.id);
    }
  }
}

function now(): string {
  return new Date().toISOString();
}
