import { RunFailures } from '../failures/run-failures.ts';
import type { Entry, EntryData } from '../journal/entry.ts';
import { printable } from '../journal/printable.ts';
import type { Verification } from '../verify/verification.ts';
import { plus } from './numbers.ts';
import { currenciesMax, factsVersion, modelsMax, waitsMax, type RunFacts } from './run-facts.ts';

/**
 * The facts of one run, entry by entry, in memory that does not grow with its journal. Pure: two who read the same journal find
 * the same.
 */
export class FactsOfRun {
  readonly #failures = new RunFailures();
  readonly #asked = new Map<string, number>();
  readonly #waitsMs: number[] = [];
  readonly #verdicts = { approved: 0, denied: 0, expired: 0, broken: 0 };
  readonly #models = new Set<string>();
  readonly #drift = new Map<string, number>();
  readonly #micros = new Map<string, number>();
  #tokens: { input: number; output: number } | undefined;
  #begun: { readonly entry: Entry; readonly opened: EntryData<'run.opened'> } | undefined;
  #ended: { readonly ms: number; readonly outcome: NonNullable<RunFacts['outcome']> } | undefined;
  #approvals = 0;
  #calls = 0;
  #denied = 0;
  #cpuMs = 0;

  add(entry: Entry): void {
    this.#failures.add(entry);
    switch (entry.type) {
      case 'run.opened':
        this.#begun = { entry, opened: entry.data };
        return this.#worked(entry.data.request?.['model']);
      case 'call.intended':
        this.#calls += 1;
        return;
      case 'call.denied':
        this.#denied += 1;
        return;
      case 'call.ended':
        this.#cpuMs += Math.round(entry.data.cpuMs ?? 0);
        return;
      case 'approval.requested':
        this.#approvals += 1;
        if (this.#asked.size < waitsMax) this.#asked.set(entry.data.id, entry.mono);
        return;
      case 'approval.decided':
        return this.#decided(entry.data, entry.mono);
      case 'drift.found':
        return this.#drifted(entry.data);
      case 'context.attached':
        return this.#spent(entry.data);
      case 'lane.handed_over':
        return this.#worked(entry.data.to.model);
      case 'run.closed':
        this.#ended = { ms: Math.round(entry.mono), outcome: entry.data.outcome };
        return;
      default:
        return;
    }
  }

  /** Undefined where the journal says nothing of a run. */
  facts(verification: Verification | undefined, linesSinceFork: number | null): RunFacts | undefined {
    if (this.#begun === undefined) return undefined;
    const { entry, opened } = this.#begun;
    const { lane, taskClass } = opened.policy.effective;
    const { approved, denied, expired, broken } = this.#verdicts;
    return {
      v: factsVersion,
      run: entry.run,
      openedAt: entry.at,
      purpose: opened.verifies !== undefined ? 'verification' : opened.replays !== undefined ? 'replay' : 'task',
      policy: nameOf(opened.policy.name),
      lane: typeof lane === 'string' ? nameOf(lane) : null,
      class: typeof taskClass === 'string' ? nameOf(taskClass) : null,
      models: [...this.#models].sort(),
      forkedFrom: opened.forkedFrom?.run ?? null,
      outcome: this.#ended?.outcome ?? null,
      ms: this.#ended?.ms ?? null,
      calls: this.#calls,
      denied: this.#denied,
      cpuMs: this.#cpuMs,
      tokens: this.#tokens === undefined ? null : { ...this.#tokens },
      money: Object.fromEntries([...this.#micros].sort(([a], [b]) => (a < b ? -1 : 1))),
      failures: countsOf([...this.#failures.list(), ...(verification?.failures ?? [])].map((one) => one.class)),
      drift: Object.fromEntries([...this.#drift].sort(([a], [b]) => (a < b ? -1 : 1))),
      approvals: { asked: this.#approvals, approved, denied, unanswered: expired + broken, waitsMs: this.#waitsMs },
      verdict: verification?.verdict ?? null,
      gates: repeatedGates(verification),
      linesSinceFork,
    };
  }

  /** Of a fork: another run's id. */
  get forkedFrom(): string | undefined {
    return this.#begun?.opened.forkedFrom?.run;
  }

  /** What an entry had no room for has no kind. */
  #drifted({ findings, more = 0 }: EntryData<'drift.found'>): void {
    const raise = (kind: string, count: number): unknown => this.#drift.set(kind, (this.#drift.get(kind) ?? 0) + count);
    for (const { kind } of findings) raise(kind, 1);
    if (more > 0) raise(moreKinds, more);
  }

  /** Of each snapshot what was spent since the one before it: so they are added up. */
  #spent({ model, tokens, cost }: EntryData<'context.attached'>): void {
    this.#worked(model);
    if (tokens !== undefined) {
      const { input, output } = this.#tokens ?? { input: 0, output: 0 };
      this.#tokens = { input: plus(input, tokens.input), output: plus(output, tokens.output) };
    }
    if (cost === undefined || (this.#micros.size >= currenciesMax && !this.#micros.has(cost.currency))) return;
    const micros = Math.round(cost.amount * 1e6);
    this.#micros.set(cost.currency, (this.#micros.get(cost.currency) ?? 0) + micros);
  }

  /** More are of no use: a run with two counts as one of several. */
  #worked(model: unknown): void {
    if (typeof model === 'string' && model !== '' && this.#models.size < modelsMax) this.#models.add(nameOf(model));
  }

  #decided({ id, verdict }: EntryData<'approval.decided'>, mono: number): void {
    this.#verdicts[verdict] += 1;
    const askedAt = this.#asked.get(id);
    this.#asked.delete(id);
    if (askedAt !== undefined && this.#waitsMs.length < waitsMax) this.#waitsMs.push(Math.round(mono - askedAt));
  }
}

/** How often each comes, in the order of their names. */
function countsOf(names: readonly string[]): Readonly<Record<string, number>> {
  const found = new Map<string, number>();
  for (const name of names) found.set(name, (found.get(name) ?? 0) + 1);
  return Object.fromEntries([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

const moreKinds = '(more)';

function repeatedGates(verification: Verification | undefined): RunFacts['gates'] {
  const told = (verification?.gates ?? []).flatMap(({ stability }) => (stability === undefined ? [] : [stability]));
  return { repeated: told.length, flaky: told.filter(({ verdict }) => verdict.startsWith('flaky_')).length };
}

/** Printable, and short enough for a table. */
function nameOf(text: string): string {
  return printable(text).slice(0, 100);
}
