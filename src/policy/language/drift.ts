import { z } from 'zod';
import { field } from './fields.ts';
import { duration } from './units.ts';

/** What is done when an environment is no longer the one that was expected. `docs/drift.md` explains. */

/** When it is looked. From the outside it is looked all the time: this is about what a look from the inside finds. */
export const driftChecks = ['open', 'after_calls', 'close'] as const;
export type DriftCheck = (typeof driftChecks)[number];

/** From the weakest to the strictest. */
export const driftReactions = ['note', 'verify', 'reclassify', 'stop', 'fail'] as const;
export type DriftReaction = (typeof driftReactions)[number];

/** What can have changed; in the order of the docs. */
export const driftKinds = {
  image: 'The image, or the environment that was made of it, is another one.',
  packages: 'A package is there, is gone, or has another version.',
  system_file: 'A file outside the workspace, or a user, is another one.',
  tool_version: 'A program on PATH is another one.',
  env: 'Variables, locale or time zone that commands get are others.',
  process_left: 'A process runs that no call still has.',
  clock: 'The clock is further off than `clock_skew`.',
  resource_pressure: 'Memory, processors or processes are less than they were, or were used up.',
  lockfile: 'What is installed is not what a lock file of the workspace says.',
  base_moved: 'The files that the work began with are others.',
  egress: 'What can be reached is not what could be, or a way out came from outside.',
  policy: 'The policy is another one.',
  mount: 'Something is mounted that was not, or otherwise.',
  engine: 'Kernel, engine, runtime or processor are others, or somebody has paused, restarted or killed the container.',
} as const;
export type DriftKind = keyof typeof driftKinds;

const reaction = z.enum(driftReactions);

const Reactions = z.strictObject({
  image: field(reaction, driftKinds.image, 'note'),
  packages: field(reaction, driftKinds.packages, 'note'),
  system_file: field(reaction, driftKinds.system_file, 'note'),
  tool_version: field(reaction, driftKinds.tool_version, 'note'),
  env: field(reaction, driftKinds.env, 'note'),
  process_left: field(reaction, driftKinds.process_left, 'note'),
  clock: field(reaction, driftKinds.clock, 'note'),
  resource_pressure: field(reaction, driftKinds.resource_pressure, 'note'),
  lockfile: field(reaction, driftKinds.lockfile, 'note'),
  base_moved: field(reaction, driftKinds.base_moved, 'note'),
  egress: field(reaction, driftKinds.egress, 'note'),
  policy: field(reaction, driftKinds.policy, 'note'),
  mount: field(reaction, driftKinds.mount, 'note'),
  engine: field(reaction, driftKinds.engine, 'note'),
} satisfies Record<DriftKind, unknown>);

export const Drift = z.strictObject({
  check: field(
    z
      .array(z.enum(driftChecks))
      .max(driftChecks.length)
      .refine((list) => new Set(list).size === list.length, 'the same name twice')
      .readonly(),
    'When it is looked from the inside: `open`, `after_calls`, `close`. A lower layer adds some and takes none away.',
    ['open', 'close'],
  ),
  after_calls_every: field(z.int().min(1).max(10_000), 'With `after_calls`: after each so many calls.', 10),
  clock_skew: field(duration({ min: '100ms', max: '1d' }), 'So far a clock may be off.', '2s'),
  reactions: field(
    Reactions,
    'What is done, by kind: `note` records it; `verify` lets nothing out before a verification has passed; `reclassify` raises the risk to high; `stop` lets no further call in; `fail` does too, and nothing of the run is exported.',
    {},
  ),
});
export type Drift = z.infer<typeof Drift>;
