import { RunnerError } from '../errors.ts';
import type { Digest } from '../digest.ts';
import type { Database } from './database.ts';
import type { RunRow, Runs } from './runs.ts';

/** What a client named a request to open a run, so that it can be sent again. */
export interface OpenRequestName {
  readonly team: string;
  readonly identity: string;
  /** Idempotency-Key. */
  readonly key: string;
  /** Of what was asked for. */
  readonly digest: Digest;
}

/** One request opens one run, however often it is sent. */
export class OpenRequests {
  readonly #database: Database;
  readonly #runs: Runs;

  constructor(database: Database, runs: Runs) {
    this.#database = database;
    this.#runs = runs;
  }

  /**
   * The run that this request has opened or is opening; or `row` is put down as the one it opens now. `invalid_request` when the
   * name was given to another request.
   */
  begin(request: OpenRequestName, row: RunRow): { readonly kind: 'begun' | 'known'; readonly runId: string } {
    const { team, identity, key, digest } = request;
    return this.#database.transaction(() => {
      const known = this.#database.find(
        'SELECT digest, run_id FROM open_requests WHERE team = ? AND identity = ? AND request_key = ?',
        [team, identity, key],
      );
      if (known === undefined) {
        this.#runs.insert(row);
        this.#database.run(
          'INSERT INTO open_requests (team, identity, request_key, digest, run_id) VALUES (?, ?, ?, ?, ?)',
          [team, identity, key, digest, row.id],
        );
        return { kind: 'begun', runId: row.id };
      }
      if (known['digest'] === digest) return { kind: 'known', runId: String(known['run_id']) };
      const name = JSON.stringify(key.slice(0, 64));
      throw new RunnerError(
        'invalid_request',
        `Idempotency-Key ${name} was used for another request; send what was sent then, or take another key`,
      );
    });
  }

  /** After an opening that failed: the same request may try again. Its run's row goes. */
  forget(runId: string): void {
    this.#database.transaction(() => {
      this.#database.run('DELETE FROM open_requests WHERE run_id = ?', [runId]);
      this.#runs.remove(runId);
    });
  }
}
