import Libsql from 'libsql';
import { messageOf, RunnerError } from '../errors.ts';
import { makePrivate } from './private-file.ts';

/**
 * A lock of the kernel's on a file (fcntl, through SQLite: Node has none of its own). It ends with the process that holds it,
 * however that ends, so there is no stale one: not after `kill -9`, not after a reboot, and no pid is ever compared. Children do
 * not inherit it.
 */
export class FileLock {
  readonly #sqlite: Libsql.Database;

  private constructor(sqlite: Libsql.Database) {
    this.#sqlite = sqlite;
  }

  /** Undefined when somebody has it. The file is made where it is missing, empty, and stays. */
  static tryAcquire(file: string): FileLock | undefined {
    let sqlite: Libsql.Database | undefined;
    try {
      makePrivate(file);
      sqlite = new Libsql(file, { timeout: 0 });
      sqlite.exec('BEGIN IMMEDIATE');
      return new FileLock(sqlite);
    } catch (cause) {
      if (sqlite?.open === true) sqlite.close();
      if (String((cause as { code?: unknown }).code).startsWith('SQLITE_BUSY')) return undefined;
      throw new RunnerError('data_dir_unusable', `cannot lock ${file}: ${messageOf(cause)}; see to its directory`, {
        cause,
      });
    }
  }

  /** Twice is fine. */
  release(): void {
    if (this.#sqlite.open) this.#sqlite.close();
  }
}
