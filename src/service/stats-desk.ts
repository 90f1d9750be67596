import { machineKeys } from '../bundle/believed-keys.ts';
import type { SigningSource } from '../bundle/signing-key.ts';
import type { StatsQuery } from '../contract/stats-view.ts';
import type { DataDir } from '../data-dir/data-dir.ts';
import { isRunnerError, messageOf } from '../errors.ts';
import type { ReviewerKeys } from '../promotion/own-word.ts';
import { Lanes } from '../stats/lanes.ts';
import { readFacts, stampOf } from '../stats/read-facts.ts';
import { readJudgements, type Judged } from '../stats/read-judgements.ts';
import { RunFacts } from '../stats/run-facts.ts';
import { groupings, type Grouping, type Stats } from '../stats/stats.ts';
import type { FactsRow } from '../store/facts-rows.ts';
import type { Scope } from '../store/key-row.ts';
import type { Store } from '../store/store.ts';
import { FairTurns } from './fair-turns.ts';
import type { Principal } from './principal.ts';

export interface StatsParts {
  /** Who asks has this scope, and one more call to make; throws what refuses it. */
  readonly ask: (principal: Principal, scope: Scope) => void;
  readonly store: Store;
  readonly dataDir: DataDir;
  readonly signing?: SigningSource | undefined;
  readonly reviewers?: ReviewerKeys | undefined;
  /** What nobody waits for. */
  readonly onTrouble?: ((line: string) => void) | undefined;
  /** Wall clock; default the machine's. */
  readonly wallMs?: () => number;
  /** How long journals are read for one answer; what is left is read for the next ones. Default 5 s. */
  readonly readMs?: number;
}

interface Counted {
  readonly atMs: number;
  readonly lanes: Promise<Lanes>;
}

const windowMs = 30 * 86_400_000;
/** So long an answer is the answer. */
const keptMs = 10_000;
const keptMax = 32;
/** For who scrapes; less often where counting takes long, so that it never takes more than a thirtieth of a processor. */
const scrapedMs = 60_000;
const scrapedTimes = 30;
/** Of counts: one after the other, and team after team; whoever scrapes is one of them. */
const turns = { atOnce: 1, waitingMax: 256, waitMaxMs: 60_000 };
const everybody = '';
const pageRows = 500;
const atOnce = 4;
/** After every id there is. */
const last = '~';

/**
 * What the runs of a service took, and what became of them. Promises:
 *  - a team is told of its own runs alone;
 *  - the store keeps what was read, and nothing else is ever told: the numbers are those that the journals give when they are read anew;
 *  - however much one team asks, another waits for one of its counts at most;
 *  - one answer reads journals for a few seconds at most, and says how many it has not read yet.
 */
export class StatsDesk {
  readonly #parts: StatsParts;
  readonly #counting = new FairTurns(turns);
  readonly #kept = new Map<string, Counted>();
  readonly #stop = new AbortController();
  #scraped: { readonly atMs: number; readonly waitMs: number; readonly all?: readonly Stats[] } = {
    atMs: 0,
    waitMs: 0,
  };

  constructor(parts: StatsParts) {
    this.#parts = parts;
  }

  /** Of the team of who asks; the last 30 days, where nothing else is said. */
  async stats(principal: Principal, { since, by = 'lane' }: StatsQuery): Promise<Stats> {
    this.#parts.ask(principal, 'read');
    const nowMs = this.#nowMs();
    const sinceMs = since === undefined ? nowMs - windowMs : Date.parse(since);
    const name = `${principal.team} ${Math.floor(sinceMs / 60_000)}`;
    for (const [key, { atMs }] of this.#kept) if (Math.abs(nowMs - atMs) >= keptMs) this.#kept.delete(key);
    const known = this.#kept.get(name);
    const lanes = known?.lanes ?? this.#count(principal.team, sinceMs, groupings);
    if (known === undefined) {
      if (this.#kept.size < keptMax) this.#kept.set(name, { atMs: nowMs, lanes });
      lanes.catch(() => this.#kept.delete(name));
    }
    return (await lanes).stats(by);
  }

  /** Of all teams, as they were a minute ago; undefined at first. Never waits. */
  scraped(): readonly Stats[] | undefined {
    const nowMs = this.#nowMs();
    const { atMs, waitMs } = this.#scraped;
    // A clock that was set back makes nothing stay for longer.
    if (Math.abs(nowMs - atMs) >= waitMs && !this.#stop.signal.aborted) {
      const startMs = performance.now();
      this.#scraped = { ...this.#scraped, waitMs: Number.POSITIVE_INFINITY };
      const counted = () => ({
        atMs: nowMs,
        waitMs: Math.max(scrapedMs, scrapedTimes * (performance.now() - startMs)),
      });
      this.#count(undefined, nowMs - windowMs, groupings).then(
        (lanes) => (this.#scraped = { ...counted(), all: groupings.map((by) => lanes.stats(by)) }),
        (error: unknown) => {
          this.#scraped = { ...this.#scraped, ...counted() };
          this.#parts.onTrouble?.(`statistics could not be read: ${messageOf(error)}`);
        },
      );
    }
    return this.#scraped.all;
  }

  /** Nothing is read any more. Twice is fine. */
  stop(): void {
    this.#stop.abort();
  }

  /** One after the other: of each page a few journals side by side. */
  #count(team: string | undefined, sinceMs: number, by: readonly Grouping[]): Promise<Lanes> {
    return this.#counting.run(team ?? everybody, async () => {
      const { store, dataDir, signing, reviewers, readMs = 5_000 } = this.#parts;
      const lanes = new Lanes({ by, nowMs: this.#nowMs() });
      const machine = await machineKeys(dataDir.path, signing);
      const judged = await readJudgements(dataDir, { machine, ...(reviewers === undefined ? {} : { reviewers }) });
      const window = { team, since: new Date(sinceMs).toISOString() };
      const byMs = performance.now() + readMs;
      for (let before: string | undefined = last; before !== undefined;) {
        this.#stop.signal.throwIfAborted();
        const rows: readonly FactsRow[] = store.facts.page(window, before, pageRows);
        await this.#addAll(rows, lanes, judged, byMs);
        before = rows.at(-1)?.run;
      }
      lanes.missed('open', store.facts.open(window));
      return lanes;
    });
  }

  async #addAll(rows: readonly FactsRow[], lanes: Lanes, judged: Judged, byMs: number): Promise<void> {
    const waiting = rows.values();
    const work = async (): Promise<void> => {
      for (const row of waiting) {
        const found = await this.#factsOf(row, byMs);
        if (found === 'unread' || found === 'unreadable') lanes.missed(found);
        else if (found !== undefined) lanes.add(found, judged.judgements.get(found.run));
      }
    };
    await Promise.all(Array.from({ length: atOnce }, work));
  }

  /** As they are kept, if what they were read from is what it was. Undefined: the run never began. */
  async #factsOf(row: FactsRow, byMs: number): Promise<RunFacts | 'unread' | 'unreadable' | undefined> {
    const { store, dataDir } = this.#parts;
    const dir = dataDir.runDir(row.run);
    const dirOf = (run: string) => dataDir.runDir(run);
    const kept = keptFacts(row);
    const stamp = await stampOf(dir, kept?.forkedFrom ?? null, dirOf);
    if (kept !== undefined && stamp === row.stamp) return kept;
    if (performance.now() > byMs) return 'unread';
    try {
      const facts = await readFacts(dir, dirOf);
      if (facts === undefined || facts.outcome === null) return undefined;
      const read = await stampOf(dir, facts.forkedFrom, dirOf);
      // What came while it was read is read the next time.
      if (read.startsWith(stamp)) store.facts.put(row.run, { stamp: read, facts: JSON.stringify(facts) });
      return facts;
    } catch (error) {
      if (!isRunnerError(error)) throw error;
      return 'unreadable';
    }
  }

  #nowMs(): number {
    return (this.#parts.wallMs ?? Date.now)();
  }
}

/** Undefined: there are none, or they are of another version. */
function keptFacts({ facts }: FactsRow): RunFacts | undefined {
  if (facts === null) return undefined;
  try {
    return RunFacts.safeParse(JSON.parse(facts)).data;
  } catch {
    return undefined;
  }
}
