import type { Digest } from '../digest.ts';
import { foldedName } from '../workspace/changes/fold.ts';
import { reviewersKnown, type ReviewersKnown } from '../policy/language/promotion.ts';

/**
 * How it is known who reviewed, the surer one last. `named`: whoever had the data directory has said so; `authenticated`: a service
 * knew them by a key of theirs, and has signed on their behalf; `signed`: they have signed it with a key of their own besides.
 */
export type Known = ReviewersKnown;

/** One person's word on one manifest, and on nothing else. */
export interface Review {
  readonly id: string;
  /** Of the manifest that was looked at. */
  readonly bundle: Digest;
  readonly run: string;
  readonly verdict: 'accepted' | 'rejected';
  readonly by: string;
  readonly reason: string;
  readonly at: string;
  readonly known: Known;
}

/** What the reviews come to: of each person the last word counts. */
export interface ReviewOutcome {
  readonly accepted: readonly string[];
  readonly rejected: readonly Review[];
  /** Accepted by who is not known as surely as `least`: they count for nothing. */
  readonly unsure: readonly string[];
}

/**
 * Of reviews in their order. Nobody is accepted for who is known less surely than `least`; a rejection counts however it came, and
 * is taken back by its person alone: by an acceptance that is as sure.
 */
export function outcomeOf(reviews: readonly Review[], least: Known = 'named'): ReviewOutcome {
  const words = new Map<string, Review>();
  const unsure = new Map<string, string>();
  for (const review of reviews) {
    const person = personOf(review.by);
    const before = words.get(person);
    const isAccepted = review.verdict === 'accepted';
    if (isAccepted && isLess(review.known, least)) unsure.set(person, review.by);
    else if (before?.verdict === 'rejected' && isLess(review.known, before.known)) continue;
    else words.set(person, review);
  }
  const last = [...words.values()];
  return {
    accepted: last.filter(({ verdict }) => verdict === 'accepted').map(({ by }) => by),
    rejected: last.filter(({ verdict }) => verdict === 'rejected'),
    unsure: [...unsure].filter(([person]) => !words.has(person)).map(([, by]) => by),
  };
}

/** Whether who is known in the first way is known less surely than in the second. */
export function isLess(known: Known, than: Known): boolean {
  return reviewersKnown.indexOf(known) < reviewersKnown.indexOf(than);
}

/**
 * Names that look the same are one person: case, spelling of Unicode, spaces and the `@` of CODEOWNERS tell nobody apart, nor does
 * being the owner of a socket (`local:ada`), who may be anybody there.
 */
export function personOf(name: string): string {
  const folded = foldedName(name.normalize('NFKC')).replaceAll(/\s+/g, ' ').trim();
  return folded.replace(/^@/, '').replace(/^local:/, '');
}

/** The identities of keys, of the owner of a socket (`local:`), and whatever people are called. */
export const reviewerPattern = /^(?:local:)?[\p{L}\p{N}][\p{L}\p{N} ._@+/-]{0,127}$/u;
export const reasonMax = 4096;
