import { bucketAt, type Buckets } from './buckets.ts';
import { growthOf } from './growth.ts';
import { failuresAmong, type Judgement } from './judgement.ts';
import type { ReviewedChange } from './lineage.ts';
import { per, plus, shareOf, spreadOf } from './numbers.ts';
import type { RunFacts } from './run-facts.ts';
import type { Numbers } from './stats.ts';

export interface Window {
  readonly fromMs: number;
  readonly toMs: number;
}

/** A closed run, with what every group that it belongs to asks of it. */
export interface Counted {
  readonly facts: RunFacts;
  readonly outcome: NonNullable<RunFacts['outcome']>;
  readonly judgement: Judgement;
  readonly openedMs: number;
  readonly acceptedMs: number | null;
  readonly failures: number;
}

export function countedOf(facts: RunFacts, outcome: Counted['outcome'], judgement: Judgement): Counted {
  const { acceptedAt } = judgement;
  const failures = sum(Object.values(facts.failures));
  const acceptedMs = acceptedAt === null ? null : Date.parse(acceptedAt);
  return { facts, outcome, judgement, openedMs: Date.parse(facts.openedAt), acceptedMs, failures };
}

interface Money {
  runs: number;
  micros: number;
  accepted: number;
}

/** The closed runs of one group, one after the other: of each a few numbers are kept. */
export class Tally {
  runs = 0;
  readonly #outcomes = { finished: 0, failed: 0, cancelled: 0, lost: 0 };
  readonly #sums = { calls: 0, denied: 0, cpuMs: 0, accepted: 0, promoted: 0, rolledBack: 0 };
  readonly #verdicts = { passed: 0, needs_review: 0, failed: 0, broken: 0 };
  readonly #gates = { repeated: 0, flaky: 0 };
  readonly #approvals = { asked: 0, approved: 0, denied: 0, unanswered: 0 };
  readonly #tokens = { runs: 0, input: 0, output: 0, accepted: 0 };
  readonly #money = new Map<string, Money>();
  readonly #failures = new Map<string, number>();
  readonly #drift = new Map<string, number>();
  readonly #waitsMs: number[] = [];
  readonly #points: { readonly atMs: number; readonly failures: number; readonly ms: number | null }[] = [];
  readonly #acceptedAtMs: number[] = [];

  add({ facts, outcome, judgement, openedMs: atMs, acceptedMs, failures }: Counted): void {
    const { ms, calls, denied, cpuMs, verdict, gates, approvals } = facts;
    const { promoted, rolledBack } = judgement;
    const accepted = acceptedMs === null ? 0 : 1;
    this.runs += 1;
    this.#outcomes[outcome] += 1;
    if (verdict !== null) this.#verdicts[verdict] += 1;
    addTo(this.#sums, { calls, denied, cpuMs, accepted, promoted, rolledBack });
    addTo(this.#gates, gates);
    const { waitsMs, ...answers } = approvals;
    addTo(this.#approvals, answers);
    this.#waitsMs.push(...waitsMs);
    if (facts.tokens !== null) addTo(this.#tokens, { runs: 1, ...facts.tokens, accepted });
    for (const [currency, micros] of Object.entries(facts.money)) this.#spent(currency, micros, accepted);
    if (failures > 0) for (const [name, n] of Object.entries(facts.failures)) raise(this.#failures, name, n);
    for (const [name, n] of Object.entries(facts.drift)) raise(this.#drift, name, n);
    this.#points.push({ atMs, failures, ms: outcome === 'finished' ? ms : null });
    if (acceptedMs !== null) this.#acceptedAtMs.push(acceptedMs);
  }

  /** `changes`: of this group, those that somebody has reviewed. */
  numbers(window: Window | undefined, buckets: Buckets, changes: readonly ReviewedChange[]): Numbers {
    const { calls, denied, accepted, promoted, rolledBack } = this.#sums;
    const verdicts = { ...this.#verdicts };
    return {
      runs: this.runs,
      outcomes: { ...this.#outcomes },
      completionMs: spreadOf(this.#points.flatMap(({ ms }) => ms ?? [])),
      calls,
      denied,
      accepted,
      firstReview: shareOf(changes.filter((one) => one.accepted).length, changes.length),
      verdicts,
      failedVerification: shareOf(failuresAmong(verdicts), sum(Object.values(verdicts))),
      rolledBack: shareOf(rolledBack, promoted),
      correction: correctionOf(changes),
      failures: { total: totalOf(this.#failures), byClass: byName(this.#failures) },
      flaky: shareOf(this.#gates.flaky, this.#gates.repeated),
      approvals: { ...this.#approvals, waitMs: spreadOf(this.#waitsMs) },
      drift: { total: totalOf(this.#drift), byKind: byName(this.#drift) },
      cost: this.#cost(),
      growth: this.#growth(window),
      timeline: this.#timeline(buckets),
    };
  }

  #spent(currency: string, micros: number, accepted: number): void {
    const found = this.#money.get(currency);
    if (found === undefined) this.#money.set(currency, { runs: 1, micros, accepted });
    else addTo(found, { runs: 1, micros, accepted });
  }

  #cost(): Numbers['cost'] {
    const { cpuMs, accepted } = this.#sums;
    const { input, output } = this.#tokens;
    const money = [...this.#money].sort(([a], [b]) => (a < b ? -1 : 1));
    return {
      cpuMs,
      cpuMsPerAccepted: per(cpuMs, accepted),
      tokens: { ...this.#tokens, perAccepted: per(input + output, this.#tokens.accepted) },
      money: money.map(([currency, { runs, micros, accepted: changes }]) => ({
        currency,
        runs,
        amount: micros / 1e6,
        accepted: changes,
        perAccepted: changes === 0 ? null : Math.round(micros / changes) / 1e6,
      })),
    };
  }

  #growth(window: Window | undefined): Numbers['growth'] {
    const middleMs = window === undefined ? 0 : (window.fromMs + window.toMs) / 2;
    const halves = (atMs: number): 0 | 1 => (atMs < middleMs ? 0 : 1);
    const [runs, failures, accepted] = [pair(), pair(), pair()];
    for (const point of this.#points) {
      runs[halves(point.atMs)] += 1;
      failures[halves(point.atMs)] += point.failures;
    }
    for (const atMs of this.#acceptedAtMs) accepted[halves(atMs)] += 1;
    return growthOf({ runs, failures, accepted });
  }

  #timeline(buckets: Buckets): Numbers['timeline'] {
    const empty = (): number[] => buckets.startsMs.map(() => 0);
    const [runs, failures, accepted] = [empty(), empty(), empty()];
    const times = buckets.startsMs.map((): number[] => []);
    for (const { atMs, failures: failed, ms } of this.#points) {
      const at = bucketAt(buckets, atMs);
      runs[at] = (runs[at] ?? 0) + 1;
      failures[at] = (failures[at] ?? 0) + failed;
      if (ms !== null) times[at]?.push(ms);
    }
    for (const atMs of this.#acceptedAtMs) {
      const at = bucketAt(buckets, atMs);
      accepted[at] = (accepted[at] ?? 0) + 1;
    }
    return { runs, failures, accepted, medianMs: times.map((of) => spreadOf(of).median) };
  }
}

function correctionOf(changes: readonly ReviewedChange[]): Numbers['correction'] {
  const all = changes.map(({ correction }) => correction);
  const calls = all.map((one) => one.calls);
  const lines = all.flatMap((one) => one.lines ?? []);
  return {
    changes: all.length,
    corrected: all.filter((one) => one.calls > 0 || one.lines !== 0).length,
    calls: sum(calls),
    callsMedian: spreadOf(calls).median,
    lines: sum(lines),
    linesMedian: spreadOf(lines).median,
    linesUnknown: all.length - lines.length,
  };
}

function pair(): [number, number] {
  return [0, 0];
}

function addTo<K extends string>(sums: Record<K, number>, more: Readonly<Record<K, number>>): void {
  for (const key of Object.keys(more) as K[]) sums[key] = plus(sums[key], more[key]);
}

function raise(found: Map<string, number>, name: string, n: number): void {
  found.set(name, (found.get(name) ?? 0) + n);
}

function totalOf(found: ReadonlyMap<string, number>): number {
  return sum([...found.values()]);
}

/** The most frequent first. */
function byName(found: ReadonlyMap<string, number>): Readonly<Record<string, number>> {
  return Object.fromEntries([...found].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)));
}

function sum(values: readonly number[]): number {
  return values.reduce((all, one) => all + one, 0);
}
