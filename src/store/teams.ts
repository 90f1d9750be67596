import { RunnerError } from '../errors.ts';
import type { Database } from './database.ts';
import { Quota, teamPattern } from './key-row.ts';

/** What a team may have with all of its keys together, and how many turns it has to one of another. */
export interface TeamRow {
  readonly team: string;
  readonly quota: Quota;
  /** 1 to 100. */
  readonly weight: number;
}

/** Teams that an operator has said something of; of others what `TeamTerms` makes of their keys, and a weight of 1. */
export class Teams {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  set({ team, quota, weight }: TeamRow): void {
    if (!teamPattern.test(team))
      throw new RunnerError('invalid_request', `${JSON.stringify(team.slice(0, 64))} is not the name of a team`);
    if (!Number.isInteger(weight) || weight < 1 || weight > 100)
      throw new RunnerError(
        'invalid_request',
        `the weight of team ${team} is a whole number from 1 to 100, not ${weight}`,
      );
    this.#database.run(
      'INSERT INTO teams (team, quota, weight) VALUES (?, ?, ?) ON CONFLICT (team) DO UPDATE SET quota = excluded.quota, weight = excluded.weight',
      [team, JSON.stringify(Quota.parse(quota)), weight],
    );
  }

  find(team: string): TeamRow | undefined {
    return this.#rows('WHERE team = ?', [team])[0];
  }

  list(): readonly TeamRow[] {
    return this.#rows('ORDER BY team', []);
  }

  #rows(what: string, values: readonly string[]): readonly TeamRow[] {
    return this.#database.all(`SELECT * FROM teams ${what}`, values).map((row) => ({
      team: String(row['team']),
      quota: Quota.parse(JSON.parse(String(row['quota']))),
      weight: Number(row['weight']),
    }));
  }
}
