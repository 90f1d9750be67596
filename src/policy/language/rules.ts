import { z } from 'zod';
import type { Category } from '../../workspace/changes/category.ts';
import { duration } from './units.ts';
import { variables } from './env.ts';
import { byName, field, names, ownName, paths, riskLevels, ruleId, shortText } from './fields.ts';

export const requestSources = [
  'person',
  'schedule',
  'issue_comment',
  'pull_request',
  'fork_pull_request',
  'agent',
] as const;

/** Of what a change may be (`src/workspace/changes/`), what somebody may have to look at. */
const diffDetectors = [
  'execution_bearing',
  'dependency',
  'configuration',
  'secret_looking',
  'generated',
  'binary',
] as const satisfies readonly Category[];

export const When = z
  .strictObject({
    write_path: field(paths, 'A path that a call or the diff changes.'),
    command_tag: field(names(ownName), 'A tag of a command that is called.'),
    diff_detector: field(names(z.enum(diffDetectors)), 'What a change in the diff looks like.'),
    request_source: field(names(z.enum(requestSources)), 'Where the intent says that the request came from.'),
    risk_tag: field(names(ownName), 'A risk tag of the intent.'),
    egress: field(z.literal('unlisted'), 'A request to a host that no profile of the run names.'),
    credential: field(names(ownName), 'A request that a credential goes with.'),
  })
  .refine((when) => Object.values(when).some((value) => value !== undefined), 'say when it fires');
export type When = z.infer<typeof When>;

export const Escalator = z.strictObject({
  id: ruleId.describe('Named in decisions and journals.'),
  when: When.describe('Fires when any of these is so.'),
  to: z.enum(riskLevels).describe('The risk is at least this from then on; it never falls within a run.'),
});
export type Escalator = z.infer<typeof Escalator>;

const word = z.string().min(1).max(200);
const words = z.union([word.transform((one) => [one]), names(word)], { error: 'write a word, or a list of words' });
const effects = ['allow', 'require_approval', 'deny'] as const;

export const CommandRule = z
  .strictObject({
    id: ruleId.describe('Named in decisions and journals.'),
    match: z
      .strictObject({
        program: words.describe('Name of the program without its directory; `*` is any. Wrappers are seen through.'),
        subcommand: field(words, 'First word after the options, such as `push`.'),
        arguments: field(words, 'Words that all have to be there.'),
        opaque: field(z.literal(true), 'Only commands that cannot be read, such as `eval` or an unclosed quote.'),
      })
      .describe('All of it has to be so.'),
    tags: field(names(ownName), 'For budgets, escalators and approvals.', []),
    effect: z.enum(effects).describe('The strictest rule that matches decides; order means nothing.'),
    category: field(ownName, 'With `require_approval`: which approval.'),
    reason: field(shortText, 'Shown to the agent.'),
    hint: field(shortText, 'What to do instead; shown to the agent.'),
    set_env: field(variables, 'Variables that such a command gets.', {}),
    tests: z
      .strictObject({
        match: z
          .array(z.string().max(2000))
          .min(1, 'give at least one command that matches')
          .max(64)
          .readonly()
          .describe('Command lines that it has to match.'),
        not_match: field(z.array(z.string().max(2000)).max(64).readonly(), 'Commands that it must not match.', []),
      })
      .describe('Checked whenever the policy is loaded.'),
  })
  .refine((rule) => rule.category === undefined || rule.effect === 'require_approval', {
    message: 'category goes with effect: require_approval',
    path: ['category'],
  })
  .refine((rule) => rule.category !== undefined || rule.effect !== 'require_approval', {
    message: 'is missing: require_approval names the category of approvals',
    path: ['category'],
  });
export type CommandRule = z.infer<typeof CommandRule>;

const ApprovalCategory = z.strictObject({
  effect: field(z.enum(['ask', 'deny']), '`deny`: never granted while a run is open.', 'ask'),
  quorum: field(z.int().min(1).max(10), 'How many people have to approve.', 1),
  timeout: field(duration({ min: '1s', max: '7d' }), 'Not decided by then is denied.', '30m'),
  remember: field(z.enum(['none', 'run']), '`run`: the very same call is not asked for twice in one run.', 'none'),
  reason_required: field(z.boolean(), 'Whoever approves says why.', false),
  note: field(shortText, 'Shown to whoever decides.'),
});

const Trigger = z.strictObject({
  category: ownName.describe('Which approval.'),
  when: When.describe('Fires when any of these is so.'),
});

export const Approvals = z.strictObject({
  categories: field(byName(ApprovalCategory), 'Kinds of approvals, each with its own rules.', {}),
  triggers: field(z.array(Trigger).max(256).readonly(), 'What has to be approved.', []),
});
export type Approvals = z.infer<typeof Approvals>;
