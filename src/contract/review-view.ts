import { z } from 'zod';
import { riskLevels } from '../policy/language/fields.ts';
import { reviewersKnown } from '../policy/language/promotion.ts';
import type { Verification } from '../verify/verification.ts';
import { DigestText, RunId, Time } from './fields.ts';

const known = z
  .enum(reviewersKnown)
  .describe(
    '`named`: whoever had the data directory has said who it was; `authenticated`: a service knew them by their key, and signed on their behalf; `signed`: by a key of their own besides.',
  );

export const ReviewRecordView = z.strictObject({
  id: z.string(),
  bundle: DigestText.describe('The manifest that it is of.'),
  run: RunId,
  verdict: z.enum(['accepted', 'rejected']),
  by: z.string(),
  reason: z.string(),
  at: Time,
  known,
});
export type ReviewRecordView = z.infer<typeof ReviewRecordView>;

export const SetbackView = z.strictObject({
  path: z.string(),
  run: RunId.describe('The earlier run that had changed it.'),
  promotion: z.string(),
  reason: z.string().describe('Why it was rolled back.'),
  at: Time,
});
export type SetbackView = z.infer<typeof SetbackView>;

export const SetbackList = z.strictObject({ setbacks: z.array(SetbackView).readonly() });

/** What a reviewer has to see, and what `glovebox review` shows. Paths and reasons are text of others, to be shown escaped. */
export const ReviewView = z.strictObject({
  run: RunId,
  manifest: DigestText.describe('What a review is bound to.'),
  policy: DigestText,
  risk: z.enum(riskLevels),
  intent: z.string().nullable(),
  base: z.strictObject({ digest: DigestText, commit: z.string().nullable(), below: z.string().nullable() }),
  image: z.strictObject({ reference: z.string(), id: DigestText }),
  openedAt: Time,
  closedAt: Time,
  entries: z.int().describe('Of the journal.'),
  files: z
    .array(
      z.strictObject({
        path: z.string(),
        status: z.enum(['added', 'modified', 'deleted', 'type_changed', 'mode_changed']),
        categories: z.array(z.string()).readonly(),
        flags: z.array(z.string()).readonly(),
        added: z.int().nullable().describe('Lines; null where they are not counted.'),
        removed: z.int().nullable(),
      }),
    )
    .readonly()
    .describe('What leaves, the riskiest first.'),
  left: z
    .array(z.strictObject({ path: z.string(), effect: z.string(), kind: z.string() }))
    .readonly()
    .describe('What stays behind: refused, out of scope, held back, not seen.'),
  verification: z
    .custom<Verification>((value) => typeof value === 'object' && value !== null)
    .meta({ type: 'object' })
    .nullable()
    .describe('The newest, as in verify.md; null: nobody has verified it.'),
  replay: z
    .strictObject({
      verdict: z.enum(['clean', 'diverged', 'incomplete']).describe('`clean`: the run is repeatable.'),
      at: Time,
      divergence: z.string().nullable().describe('The first one, in words.'),
    })
    .nullable()
    .describe('What came of it when its calls were made again; null: nobody has.'),
  verifications: z.int().describe('How often it was verified: a verdict that was asked for often is worth less.'),
  approvals: z
    .array(
      z.strictObject({
        category: z.string(),
        verdict: z.string(),
        by: z.array(z.string()).readonly(),
        reason: z.string(),
      }),
    )
    .readonly()
    .describe('Given or refused while it ran.'),
  work: z
    .strictObject({
      models: z
        .array(z.string())
        .readonly()
        .describe('As far as they are named, in the order in which they came; 16 at most.'),
      lanes: z.array(z.string()).readonly(),
      handOvers: z.int(),
      snapshots: z
        .int()
        .describe('How often was said what the agent believes: getContext, `glovebox context` has them.'),
    })
    .describe('Who worked on it.'),
  timeline: z
    .array(z.strictObject({ at: Time, what: z.string().describe('Printable.') }))
    .readonly()
    .describe('What happened: people, policy and risk one by one, calls between them together.'),
  setbacks: z.array(SetbackView).readonly().describe('Earlier promotions of the same files that were rolled back.'),
  reviews: z.array(ReviewRecordView).readonly().describe('Of this manifest, the oldest first.'),
  demand: z
    .strictObject({
      action: z.enum(['auto', 'review', 'never']),
      reviews: z.int(),
      owners: z.boolean(),
      reviewers: known,
      because: z.array(z.string()).readonly(),
      text: z.string(),
    })
    .describe('What the policy asks before it is promoted; how its lane has done lately counts then, too.'),
});
export type ReviewView = z.infer<typeof ReviewView>;

/** Somebody's word. */
export const GiveReview = z.strictObject({
  manifest: DigestText.describe('That was looked at; `conflict` where it is another by now.'),
  verdict: z.enum(['accepted', 'rejected']),
  reason: z.string().max(4096).default('').describe('A rejection says why.'),
  signature: z
    .string()
    .max(16_384)
    .optional()
    .describe(
      'The same, signed by the reviewer (DSSE, promotion.md); their key is in the configuration of the service.',
    ),
});
export type GiveReview = z.infer<typeof GiveReview>;
