import { z } from 'zod';
import { duration } from './units.ts';
import { Context } from './context.ts';
import { Credential } from './credential.ts';
import { Drift } from './drift.ts';
import { Egress } from './egress.ts';
import { Env } from './env.ts';
import { byName, field, names, ownName, riskLevels, shortName, shortText } from './fields.ts';
import { Environment, Files, PathSets } from './files.ts';
import { Inputs } from './inputs.ts';
import { Intent } from './intent.ts';
import { Budget, Limits } from './limits.ts';
import { Promotion } from './promotion.ts';
import { Replay } from './replay.ts';
import { Approvals, CommandRule, Escalator } from './rules.ts';
import { Tools } from './tools.ts';
import { Verify } from './verify.ts';

/**
 * A policy file as it is written. Strict: a key that is misspelt would otherwise leave a door open, or shut none.
 * What cannot be said does not exist: no engine socket, capability, host path or way to change a policy from inside.
 * `docs/policy-reference.md` and `docs/policy.schema.json` are made from this; tests compare.
 */

const image = z.string().regex(/^[A-Za-z0-9][\w.:/@-]{0,254}$/, 'write the name or the digest of an image');
const images = z.array(image).min(1, 'name at least one image').max(32).readonly();
const runtime = z.enum(['runc', 'runsc']);

/** What every layer can narrow: a file, a risk level, a lane, a class. Files: only a file, a class and a request. */
const narrowing = {
  images: field(images, 'Images a run may use, by name or digest; the first is the default.'),
  runtime: field(runtime, '`runsc` is gVisor; where it is missing, the run is refused.', 'runc'),
  limits: field(Limits, 'What the sandbox is given.', {}),
  budget: field(Budget, 'How much a run may do.', {}),
  tools: field(Tools, 'Which tools.', {}),
};
const files = field(Files, 'Which paths of the workspace, as globs or `$name` of a path set.');
const egressNames = field(names(ownName), 'Egress profiles that may be used; left out, none.');
const approvalNames = field(names(ownName), 'Approvals that every export needs.', []);

const TaskClass = z.strictObject({
  description: field(shortText, 'What such a task is.'),
  risk: field(z.enum(riskLevels), 'Risk of such a task before any escalator fires.', 'low'),
  lane: field(ownName, 'One of `lanes`: how such a task is worked on.'),
  files,
  ...narrowing,
  egress: egressNames,
});

const RiskLevelRules = z.strictObject({
  ...narrowing,
  egress: field(names(ownName), 'Ceiling: only these egress profiles at this risk.'),
  approvals: approvalNames,
});

const Lane = z.strictObject({
  description: field(shortText, 'What is done in it.'),
  ...narrowing,
  egress: field(names(ownName), 'Ceiling: only these egress profiles in this lane.'),
  approvals: approvalNames,
  models: field(
    z
      .array(z.string().regex(/^[\w.:/*-]{1,100}$/))
      .min(1)
      .max(32)
      .readonly(),
    'Models that may work here, `*` for any part of a name; the intent says which one does.',
  ),
  require_intent: field(z.boolean(), 'A run here says what it is for.', false),
  hand_over: field(
    z.strictObject({
      to: ownName.describe('The lane that goes on with it.'),
      actions_used: z.number().min(0.1).max(1).describe('Due once this part of `max_actions_per_run` is used.'),
    }),
    'When the work is to go on elsewhere; the reply says so.',
  ),
});

const Risk = z.strictObject({
  levels: field(
    z.strictObject({
      low: field(RiskLevelRules, 'What low risk adds.'),
      medium: field(RiskLevelRules, 'What medium risk adds to low.'),
      high: field(RiskLevelRules, 'What high risk adds to medium.'),
      critical: field(RiskLevelRules, 'What critical risk adds to high.'),
    }),
    "What holds at each risk, and at every higher one; the egress ceiling is each level's own.",
    {},
  ),
  escalators: field(z.array(Escalator).max(128).readonly(), 'What raises the risk.', []),
});

const Retention = z.strictObject({
  journal: field(
    duration({ min: '1d', max: '3650d' }),
    'Journals, policies and approvals: with them the last of a run goes.',
    '400d',
  ),
  output: field(duration({ min: '1h', max: '3650d' }), 'What commands have printed, and calls were answered.', '30d'),
  diff: field(
    duration({ min: '1h', max: '3650d' }),
    'Change sets and patches, with the base that they are against; a run without them cannot be forked.',
    '90d',
  ),
});

const effects = ['allow', 'require_approval', 'deny'] as const;
const PolicyTest = z.strictObject({
  name: z.string().min(1).max(200).describe('A sentence: what holds.'),
  given: z
    .strictObject({
      class: field(ownName, 'Which task class; needed where the policy has classes.'),
      read: field(z.string().min(1).max(1000), 'A path that a tool reads.'),
      write: field(z.string().min(1).max(1000), 'A path that a tool changes.'),
      command: field(z.string().min(1).max(4000), 'A command line.'),
      url: field(
        z.string().min(1).max(2000),
        'A request, such as `GET https://example.org/x` (without method it is GET), or a connection, `tcp://db.internal:5432`. Asked with the public registries.',
      ),
      tool: field(z.string().min(1).max(100), 'A tool.'),
      source: field(Intent.shape.source, 'Where the request came from.'),
      risk_tags: field(names(ownName), 'Risk tags of the intent.'),
    })
    .refine(
      (given) =>
        [given.read, given.write, given.command, given.url, given.tool].filter((asked) => asked !== undefined)
          .length === 1,
      'ask one thing: read, write, command, url or tool',
    )
    .describe('What is asked.'),
  expect: z
    .strictObject({
      effect: z.enum(effects).describe('What is decided.'),
      rule: field(z.string().max(200), 'By which rule.'),
      category: field(ownName, 'Which approval.'),
      quorum: field(z.int(), 'Of how many people.'),
      risk: field(z.enum(riskLevels), 'At which risk.'),
    })
    .describe('What has to come out.'),
});
export type PolicyTest = z.infer<typeof PolicyTest>;

export const PolicyFile = z.strictObject({
  apiVersion: z.literal('glovebox/v1', { error: 'must be glovebox/v1' }).describe('Always `glovebox/v1`.'),
  kind: z.literal('Policy', { error: 'must be Policy' }).describe('Always `Policy`.'),
  name: shortName.describe('Short name, for people and journals.'),
  version: field(z.int().min(1).max(1_000_000), 'Counts up, for people; the digest is what holds.'),
  owner: field(shortText, 'Who answers for it.'),
  description: field(z.string().max(1000), 'What it is for.', ''),
  extends: field(
    z
      .string()
      .max(300)
      .regex(
        /^[\w./-]+(@sha256:[0-9a-f]{64})?$/,
        'write a shipped name or a path, and @sha256:... to hold it to one digest',
      ),
    'The layer above: a shipped policy or a file beside this one, as it is or at one digest. This file can only narrow it.',
  ),
  files,
  ...narrowing,
  require_image_digest: field(z.boolean(), 'Every image is named by its digest.', false),
  inputs: field(Inputs, 'Directories of this machine that every run can read, and none can change.', []),
  environment: field(Environment, 'Dependencies that are installed once, before any run.'),
  env: field(Env, 'Environment of commands.', {}),
  path_sets: field(PathSets, 'Lists of globs with a name, used as `$name`.', {}),
  lanes: field(byName(Lane), 'Ways to work.', {}),
  risk: field(Risk, 'Risk levels and what raises the risk.', {}),
  classes: field(byName(TaskClass), 'Kinds of tasks. A policy without classes is one class.', {}),
  egress: field(Egress, 'What may be reached; nothing else is.', {}),
  credentials: field(byName(Credential), 'Secrets by reference, attached by the runner on the way out.', {}),
  commands: field(
    z.array(CommandRule).max(1000).readonly(),
    'Rules for commands: they tag, route and ask. Not the boundary: that is files and egress.',
  ),
  approvals: field(Approvals, 'What a person has to approve.', {}),
  promotion: field(Promotion, 'What has to be so before a bundle of a run goes into a repository.'),
  drift: field(Drift, 'When it is looked whether the environment is still the expected one, and what follows.', {}),
  replay: field(Replay, 'What counts as the same when the calls of a run are made again.'),
  retention: field(
    Retention,
    'How long things are kept once the run is closed; `glovebox gc` and the service remove them after that.',
    {},
  ),
  context: field(Context, 'What a harness has to say of what its agent believes.', {}),
  verify: field(Verify, 'What a candidate has to pass before anything of it is put to use.', {}),
  tests: field(
    z.array(PolicyTest).max(1000).readonly(),
    'Decisions that have to come out; the policy does not load unless they do.',
    [],
  ),
});
export type PolicyFile = z.infer<typeof PolicyFile>;
export type TaskClass = z.infer<typeof TaskClass>;
export type Lane = z.infer<typeof Lane>;
export type RiskLevelRules = z.infer<typeof RiskLevelRules>;
