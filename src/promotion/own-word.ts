import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import { openEnvelope, sealEnvelope } from '../bundle/envelope.ts';
import { statementType } from '../bundle/statements.ts';
import { canonicalJson, type Digest } from '../digest.ts';
import { idPattern } from '../ids.ts';
import { personOf, reasonMax, reviewerPattern, type Review } from './review.ts';

/** What a reviewer says, and signs with a key of their own: nobody who keeps the record can say it for them. */
export type Word = Pick<Review, 'bundle' | 'run' | 'verdict' | 'by' | 'reason' | 'at'>;

/** Public keys of reviewers, as the operator gives them, by `personOf` their names. */
export type ReviewerKeys = ReadonlyMap<string, readonly KeyObject[]>;

export const ownWordMax = 16_384;

/** An envelope as bundles have them; `at` says when, for whoever takes it. */
export function signWord(word: Word, key: KeyObject): string {
  const { bundle, ...predicate } = word;
  return sealEnvelope(canonicalJson(reviewStatement(ownType, bundle, predicate)), key);
}

/** What was signed, or why it counts for nothing. */
export function readWord(envelope: string, by: string, keys: ReviewerKeys): Word | { readonly problem: string } {
  const own = keys.get(personOf(by)) ?? [];
  if (own.length === 0) return { problem: `the configuration has no key of ${by} (promotion.reviewers)` };
  const opened = openEnvelope(envelope, own);
  if (opened.kind === 'bad') return { problem: `it is not signed by ${by}: ${opened.message}` };
  const parsed = OwnWord.safeParse(JSON.parse(opened.payload));
  if (!parsed.success) return { problem: 'what is signed is no review' };
  const { predicate, subject } = parsed.data;
  return { ...predicate, bundle: `sha256:${subject[0].digest.sha256}` };
}

/** In-toto, as everything that is signed here. */
export function reviewStatement<T extends string, P extends object>(predicateType: T, bundle: Digest, predicate: P) {
  return {
    _type: statementType,
    subject: [{ name: 'manifest.json' as const, digest: { sha256: bundle.slice('sha256:'.length) } }],
    predicateType,
    predicate,
  } as const;
}

export function reviewSchema<T extends string, P extends z.ZodType>(predicateType: T, predicate: P) {
  return z.strictObject({
    _type: z.literal(statementType),
    subject: z.tuple([
      z.strictObject({
        name: z.literal('manifest.json'),
        digest: z.strictObject({ sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
      }),
    ]),
    predicateType: z.literal(predicateType),
    predicate,
  });
}

const ownType = 'urn:glovebox:reviewer-word:v1';

/** Fields of both statements. */
export const wordShape = {
  run: z.string().regex(idPattern),
  verdict: z.enum(['accepted', 'rejected']),
  by: z.string().regex(reviewerPattern),
  reason: z.string().max(reasonMax),
  at: z.iso.datetime({ precision: 3 }),
} as const;

const OwnWord = reviewSchema(ownType, z.strictObject(wordShape));
