import { z } from 'zod';

/** What is measured, of one group or of all runs together. `docs/stats.md` has every definition. Pure data: no NaN, null is none. */
const count = z.int().nonnegative();
const pair = z.tuple([count, count]).readonly();
const amount = z.number().nonnegative();
const counts = z.record(z.string(), count);

const share = z.number().min(0).max(1).nullable();
const ShareOf = z.strictObject({ count, of: count, share, low: share, high: share, few: z.boolean() });
const SpreadOf = z.strictObject({ n: count, median: amount.nullable(), p95: amount.nullable(), few: z.boolean() });

export const groupings = ['lane', 'class', 'model', 'policy'] as const;
export type Grouping = (typeof groupings)[number];

export const Numbers = z.strictObject({
  runs: count.describe('Closed ones.'),
  outcomes: z.strictObject({ finished: count, failed: count, cancelled: count, lost: count }),
  completionMs: SpreadOf.describe('Of finished runs.'),
  calls: count,
  denied: count,
  accepted: count.describe('Changes that are accepted.'),
  firstReview: ShareOf.describe('Of reviewed changes, those whose first review accepts.'),
  verdicts: z.strictObject({ passed: count, needs_review: count, failed: count, broken: count }),
  failedVerification: ShareOf.describe('Of verified runs, those that failed or could not be judged.'),
  rolledBack: ShareOf.describe('Of promotions, those that were taken back.'),
  correction: z
    .strictObject({
      changes: count.describe('That somebody has reviewed.'),
      corrected: count.describe('On which somebody worked after that.'),
      calls: count,
      callsMedian: amount.nullable(),
      lines: count,
      linesMedian: amount.nullable(),
      linesUnknown: count.describe('Changes whose lines are not kept.'),
    })
    .describe('What was done after the first review.'),
  failures: z.strictObject({ total: count, byClass: counts }),
  flaky: ShareOf.describe('Of gates that were run more than once.'),
  approvals: z.strictObject({
    asked: count,
    approved: count,
    denied: count,
    unanswered: count,
    waitMs: SpreadOf,
  }),
  drift: z.strictObject({ total: count, byKind: counts }),
  cost: z.strictObject({
    cpuMs: amount,
    cpuMsPerAccepted: amount.nullable(),
    tokens: z.strictObject({
      runs: count.describe('Whose harness has said so; the rest is of these alone.'),
      input: count,
      output: count,
      accepted: count,
      perAccepted: amount.nullable(),
    }),
    money: z
      .array(
        z.strictObject({
          currency: z.string(),
          runs: count,
          amount,
          accepted: count,
          perAccepted: amount.nullable(),
        }),
      )
      .readonly(),
  }),
  growth: z.strictObject({
    verdict: z.enum(['grows_faster', 'does_not', 'too_few']),
    runs: pair,
    failures: pair,
    accepted: pair,
  }),
  timeline: z
    .strictObject({
      runs: z.array(count).readonly(),
      failures: z.array(count).readonly(),
      accepted: z.array(count).readonly(),
      medianMs: z.array(amount.nullable()).readonly(),
    })
    .describe('By bucket of `buckets`.'),
});
export type Numbers = Readonly<z.infer<typeof Numbers>>;

export const Stats = z.strictObject({
  v: z.literal(1),
  from: z.iso.datetime().nullable().describe('null: there is no run.'),
  to: z.iso.datetime(),
  by: z.enum(groupings),
  seen: z.strictObject({
    open: count.describe('Still open: not counted.'),
    made: count.describe('Made to verify or replay others: not counted.'),
    unreadable: count.describe('Whose journal, verification or review is not what was written: not counted.'),
    unread: count.describe('That the service has not read yet: not counted so far.'),
  }),
  buckets: z.strictObject({ ms: count, starts: z.array(z.iso.datetime()).readonly() }),
  all: Numbers,
  groups: z
    .array(z.strictObject({ name: z.string(), numbers: Numbers }))
    .readonly()
    .describe('Most runs first.'),
});
export type Stats = Readonly<z.infer<typeof Stats>>;
