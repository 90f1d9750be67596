import type { Participation } from '../journal/entry.ts';
import type { Runs } from '../store/runs.ts';
import type { OpenRun } from './open-run.ts';
import type { Principal } from './principal.ts';

/**
 * Who has had a hand in a run, and so answers for it no more. Promises:
 *  - it is in the store before the work of whoever joins begins;
 *  - it is in the journal too, by a call's own entry or by one for this alone, so that a lost store can be made again;
 *  - each identity is put down once in a run.
 */
export class Participants {
  readonly #rows: Runs;

  constructor(rows: Runs) {
    this.#rows = rows;
  }

  /** By a call, whose own entry says who made it. */
  joinByCall({ identity }: Principal, { row, callers }: OpenRun): void {
    if (callers.has(identity)) return;
    this.#rows.addCaller(row.id, identity);
    callers.add(identity);
  }

  /** By anything else, before it is done. Rejects where that cannot be put on record. */
  async join({ identity }: Principal, { run, row, callers }: OpenRun, how: Participation): Promise<void> {
    if (identity === row.identity || callers.has(identity)) return; // who opened it is on record by that
    this.#rows.addCaller(row.id, identity);
    await run.noteParticipant(identity, how);
    callers.add(identity);
  }

  /** By what only takes away or ends: it waits for no record, and is done although there can be none. */
  async joinBeside<T>(principal: Principal, entry: OpenRun, how: Participation, work: () => Promise<T>): Promise<T> {
    const joined = this.join(principal, entry, how).catch(() => undefined);
    try {
      return await work();
    } finally {
      await joined;
    }
  }
}
