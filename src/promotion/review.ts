import type { Digest } from '../digest.ts';
import { foldedName } from '../workspace/changes/fold.ts';

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
}

/** What the reviews come to: of each person the last word counts, however the name is spelt. */
export function outcomeOf(reviews: readonly Review[]): {
  readonly accepted: readonly string[];
  readonly rejected: readonly Review[];
} {
  const last = new Map(reviews.map((review) => [personOf(review.by), review]));
  return {
    accepted: [...last.values()].filter(({ verdict }) => verdict === 'accepted').map(({ by }) => by),
    rejected: [...last.values()].filter(({ verdict }) => verdict === 'rejected'),
  };
}

/** Names that look the same are one person: case, spelling of Unicode and spaces tell nobody apart. */
export function personOf(name: string): string {
  return foldedName(name.normalize('NFKC')).replaceAll(/\s+/g, ' ').trim();
}

export const reviewerPattern = /^[\p{L}\p{N}][\p{L}\p{N} ._@+/-]{0,127}$/u;
