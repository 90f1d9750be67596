import type { Database } from './database.ts';

/** What was read of one closed run, as text that only its reader understands. */
export interface FactsRow {
  readonly run: string;
  readonly openedAt: string;
  /** Of what they were read from: another one, and they are read again. null: never read. */
  readonly stamp: string | null;
  /** null: they could not be read, or never were. */
  readonly facts: string | null;
}

export interface FactsWindow {
  /** Undefined: of all teams. */
  readonly team?: string | undefined;
  /** Only runs that were opened since then, by ISO 8601. */
  readonly since: string;
}

/** Facts of closed runs, kept so that no journal is read twice. All of it can be read again from the journals. */
export class FactsRows {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  put(run: string, { stamp, facts }: Pick<FactsRow, 'stamp' | 'facts'>): void {
    this.#database.run(
      'INSERT INTO run_facts (run_id, stamp, facts) SELECT id, ?, ? FROM runs WHERE id = ? ON CONFLICT (run_id) DO UPDATE SET stamp = excluded.stamp, facts = excluded.facts',
      [stamp, facts, run],
    );
  }

  /** Closed runs, newest first, those that were never read too. */
  page({ team, since }: FactsWindow, before: string, limit: number): readonly FactsRow[] {
    const ofTeam = team === undefined ? '' : 'team = ? AND';
    const rows = this.#database.all(
      `SELECT id, opened_at, stamp, facts FROM runs LEFT JOIN run_facts ON run_id = id
       WHERE ${ofTeam} state = 'closed' AND opened_at >= ? AND id < ? ORDER BY id DESC LIMIT ?`,
      [...(team === undefined ? [] : [team]), since, before, limit],
    );
    return rows.map((row) => ({
      run: String(row['id']),
      openedAt: String(row['opened_at']),
      stamp: textOf(row['stamp']),
      facts: textOf(row['facts']),
    }));
  }

  /** How many are still open. */
  open({ team, since }: FactsWindow): number {
    const ofTeam = team === undefined ? '' : 'team = ? AND';
    const row = this.#database.find(
      `SELECT count(*) AS n FROM runs WHERE ${ofTeam} state = 'open' AND opened_at >= ?`,
      [...(team === undefined ? [] : [team]), since],
    );
    return Number(row?.['n'] ?? 0);
  }
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}
