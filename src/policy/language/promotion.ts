import { z } from 'zod';
import { categoryNames } from '../../workspace/changes/category.ts';
import { field, names, ownName, paths, riskLevels, ruleId } from './fields.ts';

const people = z.int().min(1).max(10);

const When = z.strictObject({
  risk: field(names(z.enum(riskLevels)), 'The risk that the run and its verification came to.'),
  classes: field(names(ownName), 'The task class of the run.'),
  lanes: field(names(ownName), 'Its lane.'),
  categories: field(
    names(z.enum(categoryNames)),
    'What a change is: of `auto` all changes have to be one of these, of the others one change is enough.',
  ),
  write_path: field(paths, 'Which paths are changed: of `auto` all of them, of the others one is enough.'),
  lines_above: field(z.int().min(0).max(10_000_000), 'More lines than this are added and removed.'),
  lines_below: field(z.int().min(1).max(10_000_000), 'Fewer lines than this are added and removed.'),
});

const PromotionRule = z
  .strictObject({
    id: ruleId.describe('Named where a promotion is refused, and in its record.'),
    when: field(When, 'All that is said has to be so; left out: always.', {}),
    action: z
      .enum(['auto', 'review', 'never'])
      .describe('The strictest rule that fits decides; order means nothing. Without one that fits: `review`.'),
    reviews: field(people, 'With `review`: how many people have to accept.', 1),
    owners: field(
      z.boolean(),
      'With `review`: of each changed file that has owners (CODEOWNERS), one is among them.',
      false,
    ),
    repeatable: field(
      z.literal(true),
      'With `auto` or `review`: the calls of the run were made again (`glovebox replay`), and all came out the same; otherwise: never.',
    ),
  })
  .refine(({ action, reviews, owners }) => action === 'review' || (reviews === undefined && owners === undefined), {
    message: 'reviews and owners go with action: review',
    path: ['action'],
  })
  .refine(({ action, repeatable }) => action !== 'never' || repeatable === undefined, {
    message: 'repeatable goes with action: auto or review',
    path: ['repeatable'],
  });
export type PromotionRule = z.infer<typeof PromotionRule>;

const TightenWhen = z.strictObject({
  window: field(z.int().min(2).max(1000), 'So many of the last verified runs of a lane are looked at.', 20),
  failures_above: field(z.int().min(0).max(1000), 'More of them than this did not pass.'),
  rollbacks_above: field(z.int().min(0).max(1000), 'More of them than this were rolled back.'),
  to: z.enum(['review', 'owners']).describe('`review`: nothing goes on by itself; `owners`: two people, with owners.'),
});
export type TightenWhen = z.infer<typeof TightenWhen>;

/** The surer one last. */
export const reviewersKnown = ['named', 'authenticated', 'signed'] as const;
export type ReviewersKnown = (typeof reviewersKnown)[number];

export const Promotion = z.strictObject({
  rules: field(z.array(PromotionRule).max(128).readonly(), 'What has to be so before a bundle is promoted.', []),
  reviewers: field(
    z.enum(reviewersKnown),
    'How surely it has to be known who accepts: `named`: whoever has the data directory says so; `authenticated`: a service knew them by a key of theirs; `signed`: they have signed with a key of their own.',
    'named',
  ),
  tighten_when: field(TightenWhen, 'When a lane goes wrong too often, its promotions need more by themselves.'),
});
