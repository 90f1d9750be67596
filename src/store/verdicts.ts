import type { Database } from './database.ts';

/** One identity's answer to one approval, kept until enough have answered. */
export interface VerdictRow {
  readonly approvalId: string;
  readonly runId: string;
  readonly identity: string;
  readonly approve: boolean;
  readonly reason: string;
  readonly at: string;
}

export class Verdicts {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** False when this identity has answered before: the first answer stands. */
  add(row: VerdictRow): boolean {
    const { approvalId, identity, runId, approve, reason, at } = row;
    return (
      this.#database.run(
        'INSERT OR IGNORE INTO verdicts (approval_id, identity, run_id, approve, reason, at) VALUES (?, ?, ?, ?, ?, ?)',
        [approvalId, identity, runId, approve ? 1 : 0, reason, at],
      ) > 0
    );
  }

  /** In the order they came. */
  of(approvalId: string): readonly VerdictRow[] {
    const rows = this.#database.all('SELECT * FROM verdicts WHERE approval_id = ? ORDER BY at, identity', [approvalId]);
    return rows.map((row) => ({
      approvalId,
      runId: String(row['run_id']),
      identity: String(row['identity']),
      approve: row['approve'] === 1,
      reason: String(row['reason']),
      at: String(row['at']),
    }));
  }
}
