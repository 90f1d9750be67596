import { join } from 'node:path';
import { brokenConstraint, Database, type Durability, type Row, type Value } from './database.ts';
import { FactsRows } from './facts-rows.ts';
import { Keys } from './keys.ts';
import { OpenRequests } from './requests.ts';
import { Runs } from './runs.ts';
import { Teams } from './teams.ts';
import { Verdicts } from './verdicts.ts';

export interface StoreOptions {
  /** Default `process`. */
  readonly durability?: Durability;
  /** Wall clock; default `Date.now`. */
  readonly now?: () => number;
}

/**
 * What a service asks for across runs: `state.db` in the data directory. Journals stay the truth: its runs can be made again from
 * them (`rebuild.ts`); its keys, teams and half-given approvals cannot, so they are what a backup is for.
 */
export class Store {
  readonly file: string;
  readonly keys: Keys;
  readonly teams: Teams;
  readonly runs: Runs;
  readonly facts: FactsRows;
  readonly requests: OpenRequests;
  readonly verdicts: Verdicts;
  readonly #database: Database;

  private constructor(database: Database, now: () => number) {
    this.#database = database;
    this.file = database.file;
    this.keys = new Keys(database, now);
    this.teams = new Teams(database);
    this.runs = new Runs(database);
    this.facts = new FactsRows(database);
    this.requests = new OpenRequests(database, this.runs);
    this.verdicts = new Verdicts(database);
  }

  /** Of a data directory. Throws `data_dir_unusable`: damaged, of a newer version, not ours to write, or held for too long. */
  static open(dir: string, options: StoreOptions = {}): Store {
    return Store.openFile(storeFile(dir), options);
  }

  static openFile(file: string, { durability = 'process', now = Date.now }: StoreOptions = {}): Store {
    return new Store(Database.open(file, { durability, busyMs }), now);
  }

  transaction<T>(work: () => T): T {
    return this.#database.transaction(work);
  }

  /** As it is now, into a file that is not there yet; writers go on meanwhile. */
  copyTo(file: string): void {
    this.#database.copyTo(file);
  }

  /**
   * A row of another store's table, as it was there. False when it cannot be: it is no such row, one like it is there already, or
   * the run that it belongs to is not.
   */
  adopt(table: string, row: Row): boolean {
    const columns = this.#database
      .all('SELECT name FROM pragma_table_info(?)', [table])
      .map(({ name }) => String(name));
    if (columns.length === 0 || columns.some((column) => !isValue(row[column]))) return false;
    const marks = columns.map(() => '?').join(', ');
    const values = columns.map((column) => row[column] as Value);
    try {
      return this.#database.run(`INSERT INTO ${table} (${columns.join(', ')}) VALUES (${marks})`, values) > 0;
    } catch (error) {
      if (brokenConstraint(error) === undefined) throw error;
      return false;
    }
  }

  /** What is wrong with the file; empty: nothing. */
  damage(): readonly string[] {
    return this.#database.damage();
  }

  /** Twice is fine. */
  close(): void {
    this.#database.close();
  }
}

function isValue(value: unknown): value is Value {
  return value === null || typeof value === 'string' || typeof value === 'number';
}

export function storeFile(dir: string): string {
  return join(dir, 'state.db');
}

/** A key is made or revoked beside a service in well under a millisecond. */
const busyMs = 2_000;
