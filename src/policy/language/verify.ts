import { z } from 'zod';
import { field, names, ownName, paths, ruleId } from './fields.ts';
import { duration } from './units.ts';

/** What a candidate has to pass, without an agent, before anything of it is put to use. `docs/verify.md` explains. */

const text = z.string().regex(/^[^\0]*$/, 'no NUL can be passed to a command');
const argv = z
  .array(text.max(4096))
  .min(1, 'name a program')
  .max(256)
  .refine(([program]) => program !== '', 'name a program')
  .readonly();

const Report = z.strictObject({
  kind: z.enum(['junit', 'tap']).describe('JUnit XML, or TAP (versions 12 to 14).'),
  path: field(
    z
      .string()
      .regex(/^[^\0]{1,1000}$/)
      .refine((path) => !path.split('/').includes('..'), 'a report lies in the workspace or in /tmp, without `..`'),
    'Where the command writes it, in the workspace or in /tmp; left out: it prints it.',
  ),
});

const VerifyGate = z
  .strictObject({
    id: ruleId.describe('Names the gate in the verification.'),
    run: field(argv, 'Program and arguments, started in the workspace without a shell. Either this or `script`.'),
    script: field(text.min(1).max(16_384), 'Shell script, started in the workspace.'),
    timeout: field(duration({ min: '1s', max: '24h' }), 'Longest time of one attempt.', '10m'),
    required: field(z.boolean(), 'Its verdict counts; otherwise it is only told.', true),
    report: field(Report, 'What its tests came to; an exit code without this report passes nothing.'),
    shuffle: field(argv, 'The same checks in another order, to tell a test that depends on the order of tests.'),
    egress: field(names(ownName), 'Egress profiles that it may use; left out: the network is shut.', []),
    inputs: field(
      paths,
      'Further files that decide what is checked; a candidate that changes them is judged with those of the base too.',
      [],
    ),
    classes: field(names(ownName), 'Task classes that it is for; left out: all.'),
    red_green: field(z.boolean(), 'The tests of the candidate have to fail on its base.', false),
  })
  .refine(({ run, script }) => (run === undefined) !== (script === undefined), 'a gate has either `run` or `script`');
export type VerifyGate = z.infer<typeof VerifyGate>;

const times = z.int().min(0).max(100);

export const Reruns = z.strictObject({
  same: field(times, 'In the same way.', 3),
  shuffled: field(times, 'With `shuffle`, where the gate has it.', 3),
  no_network: field(times, 'Without the network, where the gate has some.', 3),
  half_cpu: field(times, 'With half of the processors.', 3),
  base: field(times, 'On the base, without the candidate.', 2),
});

const judged = z.enum(['allow', 'review', 'deny']);

export const DiffQuality = z.strictObject({
  files: field(z.int().min(1).max(1_000_000), 'More changed files are for a person to look at.', 100),
  lines: field(z.int().min(1).max(100_000_000), 'The same of added and removed lines.', 2000),
  generated: field(judged, 'Changes that a program has made: lock files, build output.', 'review'),
  binary: field(judged, 'Changes that nobody can read.', 'review'),
});

export const Verify = z.strictObject({
  gates: field(
    z.array(VerifyGate).max(32).readonly(),
    'Commands that have to pass. A lower layer adds some and takes none away.',
    [],
  ),
  reruns: field(
    Reruns,
    'How often a failing gate is run again in a fresh sandbox, to tell what flickers from what is broken.',
    {},
  ),
  diff: field(DiffQuality, 'What a diff may look like.', {}),
});
export type Verify = z.infer<typeof Verify>;
