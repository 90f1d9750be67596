import { RunnerError } from '../errors.ts';
import { brokenConstraint, type Database, type Row, type Value } from './database.ts';

const runStates = ['opening', 'open', 'closed'] as const;
export type RunState = (typeof runStates)[number];

/** Of a run, what is asked for across runs; all else is in its journal. */
export interface RunRow {
  readonly id: string;
  readonly team: string;
  /** Who opened it, with which key. */
  readonly identity: string;
  readonly keyId: string;
  /** Only one open run of a team has it. */
  readonly name: string | null;
  readonly state: RunState;
  /** Its name. */
  readonly policy: string;
  readonly lane: string | null;
  readonly class: string | null;
  readonly openedAt: string;
  readonly closedAt: string | null;
  /** How it was closed: finished, failed, cancelled or lost. */
  readonly outcome: string | null;
  /** What it was closed with, or stopped for; null where nobody said. */
  readonly summary: string | null;
}

export interface RunFilter {
  readonly team?: string | undefined;
  readonly state?: RunState | undefined;
  readonly name?: string | undefined;
  /** Only older ones than this id. */
  readonly before?: string | undefined;
  readonly limit: number;
}

export class Runs {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Throws `invalid_request` when an open run of the team has the name. */
  insert(row: RunRow): void {
    try {
      this.#database.run(
        `INSERT INTO runs (id, team, identity, key_id, name, state, policy, lane, class, opened_at, closed_at, outcome, summary)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        valuesOf(row),
      );
    } catch (error) {
      if (row.name === null || !(brokenConstraint(error)?.includes('runs.name') ?? false)) throw error;
      const name = JSON.stringify(row.name);
      const message = `team ${row.team} has an open run with the name ${name}; close it, or take another name`;
      throw new RunnerError('invalid_request', message, { cause: error });
    }
  }

  /** False when there is no such run. */
  update(
    id: string,
    patch: Partial<Pick<RunRow, 'state' | 'name' | 'closedAt' | 'outcome' | 'summary' | 'lane' | 'class'>>,
  ): boolean {
    const entries = Object.entries(patch).filter(([, value]) => value !== undefined);
    if (entries.length === 0) return this.find(id) !== undefined;
    const set = entries.map(([key]) => `${columns[key as keyof typeof columns]} = ?`).join(', ');
    return this.#database.run(`UPDATE runs SET ${set} WHERE id = ?`, [...entries.map(([, value]) => value), id]) > 0;
  }

  find(id: string): RunRow | undefined {
    const row = this.#database.find('SELECT * FROM runs WHERE id = ?', [id]);
    return row && rowOf(row);
  }

  /** Newest first. */
  list({ team, state, name, before, limit }: RunFilter): readonly RunRow[] {
    const wanted: [string, Value][] = [];
    if (team !== undefined) wanted.push(['team = ?', team]);
    if (state !== undefined) wanted.push(['state = ?', state]);
    if (name !== undefined) wanted.push(['name = ?', name]);
    if (before !== undefined) wanted.push(['id < ?', before]);
    const where = wanted.length === 0 ? '' : `WHERE ${wanted.map(([term]) => term).join(' AND ')}`;
    const values = [...wanted.map(([, value]) => value), limit];
    return this.#database.all(`SELECT * FROM runs ${where} ORDER BY id DESC LIMIT ?`, values).map(rowOf);
  }

  /** Opening ones too. */
  countOpen(of: { readonly team: string } | { readonly keyId: string } | 'all' = 'all'): number {
    const open = "SELECT count(*) AS n FROM runs WHERE state <> 'closed'";
    const row =
      of === 'all'
        ? this.#database.find(open)
        : 'team' in of
          ? this.#database.find(`${open} AND team = ?`, [of.team])
          : this.#database.find(`${open} AND key_id = ?`, [of.keyId]);
    return Number(row?.['n'] ?? 0);
  }

  /** With all that hangs on it. Absent is fine. */
  remove(id: string): void {
    this.#database.run('DELETE FROM runs WHERE id = ?', [id]);
  }

  /** That this identity takes part in it. Twice is fine. */
  addCaller(id: string, identity: string): void {
    this.#database.run('INSERT OR IGNORE INTO callers (run_id, identity) VALUES (?, ?)', [id, identity]);
  }

  /** Whoever takes part in it; who opened it is in the row. */
  callers(id: string): ReadonlySet<string> {
    const rows = this.#database.all('SELECT identity FROM callers WHERE run_id = ?', [id]);
    return new Set(rows.map((row) => String(row['identity'])));
  }
}

const columns = {
  state: 'state',
  name: 'name',
  closedAt: 'closed_at',
  outcome: 'outcome',
  summary: 'summary',
  lane: 'lane',
  class: 'class',
} as const;

function valuesOf(row: RunRow): readonly Value[] {
  return [
    row.id,
    row.team,
    row.identity,
    row.keyId,
    row.name,
    row.state,
    row.policy,
    row.lane,
    row.class,
    row.openedAt,
    row.closedAt,
    row.outcome,
    row.summary,
  ];
}

function rowOf(row: Row): RunRow {
  const text = (column: string): string => String(row[column]);
  const maybe = (column: string): string | null => (row[column] === null ? null : text(column));
  return {
    id: text('id'),
    team: text('team'),
    identity: text('identity'),
    keyId: text('key_id'),
    name: maybe('name'),
    state: runStates.find((state) => state === row['state']) ?? 'closed',
    policy: text('policy'),
    lane: maybe('lane'),
    class: maybe('class'),
    openedAt: text('opened_at'),
    closedAt: maybe('closed_at'),
    outcome: maybe('outcome'),
    summary: maybe('summary'),
  };
}
