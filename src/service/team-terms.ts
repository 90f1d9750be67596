import type { TeamRow, Teams } from '../store/teams.ts';

const keptMs = 1_000;
const keptMax = 1_024;

/** What an operator has said of a team. It is asked for with every call, so what is said holds within a second. */
export class TeamTerms {
  readonly #teams: Pick<Teams, 'find'>;
  readonly #kept = new Map<string, { readonly row: TeamRow | undefined; readonly untilMs: number }>();

  constructor(teams: Pick<Teams, 'find'>) {
    this.#teams = teams;
  }

  find(team: string): TeamRow | undefined {
    const nowMs = performance.now();
    const kept = this.#kept.get(team);
    if (kept !== undefined && kept.untilMs > nowMs) return kept.row;
    if (this.#kept.size >= keptMax) this.#kept.clear();
    const row = this.#teams.find(team);
    this.#kept.set(team, { row, untilMs: nowMs + keptMs });
    return row;
  }
}
