import { standardQuota, type Quota } from '../store/key-row.ts';
import type { Keys } from '../store/keys.ts';
import type { TeamRow, Teams } from '../store/teams.ts';
import { localTeam } from './principal.ts';

const keptMs = 1_000;
const keptMax = 1_024;

/** Quota: of all its keys together; undefined: nobody bounds them. */
export interface Terms extends Pick<TeamRow, 'weight'> {
  readonly quota: Quota | undefined;
}

export interface TermsSource {
  readonly teams: Pick<Teams, 'find'>;
  readonly keys: Pick<Keys, 'largestQuota'>;
}

/**
 * What an operator has said of a team; of another, its keys have together what the largest of them may have, and no less than a
 * key has by default. It is asked for with every call, so what is said holds within a second.
 */
export class TeamTerms {
  readonly #source: TermsSource;
  readonly #kept = new Map<string, { readonly terms: Terms; readonly untilMs: number }>();

  constructor(source: TermsSource) {
    this.#source = source;
  }

  find(team: string): Terms {
    const nowMs = performance.now();
    const kept = this.#kept.get(team);
    if (kept !== undefined && kept.untilMs > nowMs) return kept.terms;
    if (this.#kept.size >= keptMax) this.#kept.clear();
    const terms = this.#source.teams.find(team) ?? { weight: 1, quota: this.#usualQuota(team) };
    this.#kept.set(team, { terms, untilMs: nowMs + keptMs });
    return terms;
  }

  /** Of the owner of the machine: none. */
  #usualQuota(team: string): Quota | undefined {
    if (team === localTeam) return undefined;
    const largest = this.#source.keys.largestQuota(team) ?? standardQuota;
    const most = (of: keyof Quota): number => Math.max(largest[of], standardQuota[of]);
    return {
      openRuns: most('openRuns'),
      callsPerMinute: most('callsPerMinute'),
      cpuMillis: most('cpuMillis'),
      diskBytes: most('diskBytes'),
    };
  }
}
