import { z } from 'zod';
import { byName, field, names, ownName, paths } from './fields.ts';

export const PathSets = byName(paths);

export const Files = z
  .strictObject({
    read: field(paths, 'Copied into the sandbox. What no list names is not there at all.'),
    write: field(paths, 'May be changed; the changes are exported. Also copied in.', []),
    write_ask: field(
      paths,
      'May be changed; the changes are exported once a person has approved. Stronger than `write`.',
      [],
    ),
    propose_only: field(paths, 'May be changed; the diff is shown, but never exported. Stronger than `write_ask`.', []),
    scratch: field(
      paths,
      'May be changed, never exported, counted. For build output and caches; stronger than `write`.',
      [],
    ),
    deny: field(paths, 'Never copied in and never exported, with all below it, whatever the other lists say.', []),
    include_ignored: field(z.boolean(), 'In a git work tree, also copy in what `.gitignore` leaves out.', false),
    git: field(
      z.boolean(),
      'Make a git repository of one commit from what was copied in, so that `git diff` works inside.',
      false,
    ),
  })
  .superRefine((files, context) => {
    for (const list of ['read', 'write', 'write_ask', 'propose_only', 'scratch'] as const) {
      const dead = files[list]?.findIndex((pattern) => files.deny?.includes(pattern)) ?? -1;
      if (dead >= 0) {
        const message = `${JSON.stringify(files[list]?.[dead])} is in deny too, so it can never match here; remove one`;
        context.addIssue({ code: 'custom', message, path: [list, dead] });
      }
    }
  });
export type Files = z.infer<typeof Files>;

export const Environment = z.strictObject({
  image: z.string().describe('One of `images`: what it is built on.'),
  setup: z
    .array(z.array(z.string().min(1).max(4096)).min(1, 'a command has at least its program').max(256).readonly())
    .min(1, 'say at least one command, or leave environment out')
    .max(64)
    .readonly()
    .describe('Commands, each a list of program and arguments; run in order, as root, in /workspace.'),
  files: field(
    paths,
    'Files of the workspace that setup sees, such as lockfiles. A change of one makes a new environment.',
    [],
  ),
  egress: field(
    names(ownName),
    'Egress profiles that setup may use, whatever runs may; left out, it has no network.',
    [],
  ),
});
