import type { Promotion } from '../promotion/ledger.ts';
import { outcomeOf, type Review } from '../promotion/review.ts';
import type { Verdict } from '../verify/verification.ts';

/** What people and repositories made of one run. */
export interface Judgement {
  readonly firstReview: { readonly at: string; readonly verdict: Review['verdict'] } | null;
  /** Promotions that were done, and those of them that were taken back. */
  readonly promoted: number;
  readonly rolledBack: number;
  /**
   * Since when its change is accepted: a promotion that was not taken back; of a run that was never promoted, the last word of
   * whoever reviewed it, where nobody's is a rejection. null: it is not.
   */
  readonly acceptedAt: string | null;
}

export const unjudged: Judgement = { firstReview: null, promoted: 0, rolledBack: 0, acceptedAt: null };

/** By run; only of runs of which something was said or done. Pure. */
export function judgementsOf(
  reviews: readonly Review[],
  promotions: readonly Promotion[],
): ReadonlyMap<string, Judgement> {
  const reviewsOf = byRun([...reviews].sort(byTime), ({ run }) => run);
  const promotionsOf = byRun(promotions, ({ intended }) => intended.run);
  const runs = new Set([...reviewsOf.keys(), ...promotionsOf.keys()]);
  return new Map([...runs].map((run) => [run, judgementOf(reviewsOf.get(run) ?? [], promotionsOf.get(run) ?? [])]));
}

/** What became of one: of lanes' records and of statistics the same. */
export function becameOf({ done, rolledBack }: Promotion): 'promoted' | 'rolled_back' | 'unfinished' {
  if (done === undefined) return 'unfinished';
  return rolledBack === undefined ? 'promoted' : 'rolled_back';
}

/** Runs whose newest verification speaks against them. */
export function failuresAmong({ failed, broken }: Readonly<Record<Verdict, number>>): number {
  return failed + broken;
}

/** `reviews`: the oldest first. */
function judgementOf(reviews: readonly Review[], promotions: readonly Promotion[]): Judgement {
  const [first] = reviews;
  const done = promotions.filter((one) => becameOf(one) !== 'unfinished');
  const stands = done.filter((one) => becameOf(one) === 'promoted').flatMap((one) => one.done?.at ?? []);
  const acceptedAt = done.length > 0 ? (stands.sort()[0] ?? null) : acceptedByPeople(reviews);
  return {
    firstReview: first === undefined ? null : { at: first.at, verdict: first.verdict },
    promoted: done.length,
    rolledBack: done.length - stands.length,
    acceptedAt,
  };
}

function acceptedByPeople(reviews: readonly Review[]): string | null {
  const { accepted, rejected } = outcomeOf(reviews);
  if (accepted.length === 0 || rejected.length > 0) return null;
  return reviews.findLast(({ verdict }) => verdict === 'accepted')?.at ?? null;
}

function byRun<T>(all: readonly T[], runOf: (one: T) => string): ReadonlyMap<string, readonly T[]> {
  const found = new Map<string, T[]>();
  for (const one of all) {
    const of = found.get(runOf(one));
    if (of === undefined) found.set(runOf(one), [one]);
    else of.push(one);
  }
  return found;
}

function byTime(a: Review, b: Review): number {
  return a.at === b.at ? (a.id < b.id ? -1 : 1) : a.at < b.at ? -1 : 1;
}
