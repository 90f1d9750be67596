import { closeSync, openSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import Libsql from 'libsql';
import { messageOf, RunnerError } from '../errors.ts';
import { applicationId, migrations } from './migrations.ts';
import { makePrivate } from './private-file.ts';

/**
 * What is on disk when a write returns. `process`: it survives the death of every process of ours. `power`: the loss of power
 * too; the last few commits are waited for.
 */
export type Durability = 'process' | 'power';

export type Value = string | number | null;
export type Row = Readonly<Record<string, unknown>>;

export interface DatabaseOptions {
  readonly durability: Durability;
  /** How long a write waits for one of another process, and this process with it. */
  readonly busyMs: number;
}

/**
 * One SQLite file in WAL mode. Promises:
 *  - what was committed is there after a crash at any moment; what was not, is not;
 *  - a file that is damaged, of somebody else, or written by a newer version is refused, and left as it is;
 *  - only its owner can read it: it is made 0600 before anything is in it, and SQLite gives its other files the same mode.
 * It is synchronous: a read takes 10 µs, a write 20 to 200. What another process has committed is seen by the next statement.
 */
export class Database {
  readonly file: string;
  readonly #sqlite: Libsql.Database;
  readonly #statements = new Map<string, Libsql.Statement>();
  #depth = 0;

  private constructor(file: string, sqlite: Libsql.Database) {
    this.file = file;
    this.#sqlite = sqlite;
  }

  /** Made where it is missing. Throws `data_dir_unusable`. */
  static open(file: string, options: DatabaseOptions): Database {
    const database = new Database(file, connect(file, options.busyMs));
    try {
      database.#prepare(options.durability);
      return database;
    } catch (error) {
      database.close();
      throw error instanceof RunnerError ? error : failure(file, 'cannot be opened', error);
    }
  }

  all(sql: string, values: readonly Value[] = []): readonly Row[] {
    return this.#do(() => this.#statement(sql).all([...values]) as Row[]);
  }

  find(sql: string, values: readonly Value[] = []): Row | undefined {
    return this.all(sql, values)[0];
  }

  /** How many rows it changed. */
  run(sql: string, values: readonly Value[] = []): number {
    return this.#do(() => this.#statement(sql).run([...values]).changes);
  }

  /** All of it or nothing; one within another is part of it. */
  transaction<T>(work: () => T): T {
    if (this.#depth > 0) return work();
    this.#do(() => this.#sqlite.exec('BEGIN IMMEDIATE'));
    this.#depth++;
    try {
      const value = work();
      this.#do(() => this.#sqlite.exec('COMMIT'));
      return value;
    } catch (error) {
      if (this.#sqlite.inTransaction) this.#sqlite.exec('ROLLBACK');
      throw error;
    } finally {
      this.#depth--;
    }
  }

  /** As it is now, whole and without a WAL, into a file that is not there yet. Writers go on meanwhile. */
  copyTo(target: string): void {
    closeSync(openSync(target, 'wx', 0o600));
    this.#do(() => this.#sqlite.exec(`VACUUM INTO '${target.replaceAll("'", "''")}'`));
  }

  /** What is wrong with the file, by a look at all of it; empty: nothing. */
  damage(): readonly string[] {
    return problemsOf(this.#sqlite.prepare('PRAGMA integrity_check(20)').all([]));
  }

  /**
   * Twice is fine. The file is whole by itself then, unless others have it open. SQLite's own descriptors go when the garbage
   * collector has come by: until then nobody in this process may put another file in its place.
   */
  close(): void {
    this.#statements.clear();
    if (!this.#sqlite.open) return;
    try {
      this.#sqlite.prepare('PRAGMA wal_checkpoint(TRUNCATE)').all([]);
    } catch {
      // what is in the log stays there, and is found there by the next one
    }
    this.#sqlite.close();
  }

  #prepare(durability: Durability): void {
    const sqlite = this.#sqlite;
    const { size } = statSync(this.file);
    refuseDamaged(this.file, sqlite);
    const version = numberOf(sqlite, 'user_version');
    refuseForeign(this.file, sqlite, { version, size });
    sqlite.exec('PRAGMA journal_mode = WAL');
    sqlite.exec(`PRAGMA synchronous = ${durability === 'power' ? 'FULL' : 'NORMAL'}`);
    sqlite.exec('PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA secure_delete = ON');
    if (version < migrations.length) this.#migrate();
  }

  /** Two processes may come here at once: who has the lock looks again. */
  #migrate(): void {
    this.transaction(() => {
      const from = numberOf(this.#sqlite, 'user_version');
      for (const migration of migrations.slice(from)) this.#sqlite.exec(migration);
      this.#sqlite.exec(`PRAGMA user_version = ${migrations.length}; PRAGMA application_id = ${applicationId}`);
    });
  }

  #statement(sql: string): Libsql.Statement {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#sqlite.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }

  #do<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw failure(this.file, 'could not be read or written', error);
    }
  }
}

/** The name of the constraint that a write broke; undefined for every other failure. */
export function brokenConstraint(error: unknown): string | undefined {
  const cause = error instanceof RunnerError ? error.cause : error;
  return codeOf(cause).startsWith('SQLITE_CONSTRAINT') ? messageOf(cause) : undefined;
}

function connect(file: string, busyMs: number): Libsql.Database {
  try {
    makePrivate(file);
    return new Libsql(file, { timeout: busyMs });
  } catch (cause) {
    throw failure(file, 'cannot be opened', cause);
  }
}

function refuseDamaged(file: string, sqlite: Libsql.Database): void {
  let problems: readonly string[];
  try {
    problems = problemsOf(sqlite.prepare('PRAGMA quick_check(5)').all([]));
  } catch (cause) {
    if (!/NOTADB|CORRUPT/.test(codeOf(cause))) throw cause;
    problems = [messageOf(cause)];
  }
  if (problems.length > 0) throw damaged(file, problems);
}

function refuseForeign(file: string, sqlite: Libsql.Database, found: { version: number; size: number }): void {
  const { version, size } = found;
  const id = numberOf(sqlite, 'application_id');
  const isFresh = version === 0 && id === 0 && numberOf(sqlite, 'schema_version') === 0;
  if (isFresh && size > freshBytesMax) throw damaged(file, ['its header says that it is empty']);
  if (!isFresh && id !== applicationId)
    throw new RunnerError('data_dir_unusable', `${file} is a database of another program; move it away`);
  if (version <= migrations.length) return;
  throw new RunnerError(
    'data_dir_unusable',
    `${file} was written by a newer glovebox (its schema is ${version}, this one knows ${migrations.length}); use that one, or restore a backup of before`,
  );
}

/** One page: as large as a file gets before anything is in it. */
const freshBytesMax = 4096;

function problemsOf(rows: readonly unknown[]): readonly string[] {
  const said = rows.map((row) => String(Object.values(row as Row)[0]));
  return said.filter((text) => text !== 'ok');
}

function numberOf(sqlite: Libsql.Database, pragma: string): number {
  const [row] = sqlite.prepare(`PRAGMA ${pragma}`).all([]);
  return Number((row as Row | undefined)?.[pragma] ?? 0);
}

function damaged(file: string, problems: readonly string[]): RunnerError {
  const what = problems.join('; ').slice(0, 500);
  return new RunnerError(
    'data_dir_unusable',
    `${file} is damaged (${what}); restore a backup, or keep what is readable of it: glovebox state repair`,
  );
}

function failure(file: string, what: string, cause: unknown): RunnerError {
  const code = codeOf(cause);
  if (/NOTADB|CORRUPT/.test(code)) return damaged(file, [messageOf(cause)]);
  const next = code.startsWith('SQLITE_BUSY')
    ? 'another process holds it; see which one, and try again'
    : /FULL|IOERR/.test(code)
      ? 'see to its disk: is there room?'
      : `see to ${basename(file)} and its directory`;
  return new RunnerError('data_dir_unusable', `${file} ${what}: ${messageOf(cause)}; ${next}`, { cause });
}

function codeOf(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'string' ? code : '';
}
