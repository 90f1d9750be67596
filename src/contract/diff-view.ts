import { z } from 'zod';

const Tally = z.strictObject({ files: z.int(), bytes: z.int() });

/** What a run proposes: `diff.json`. Paths and details are text of the sandbox. */
export const DiffView = z.strictObject({
  policy: z.string().describe('Digest of the policy.'),
  changes: z
    .array(
      z.strictObject({
        path: z.string(),
        status: z.enum(['added', 'modified', 'deleted', 'type_changed', 'mode_changed']),
        kind: z.enum(['file', 'symlink', 'directory']),
        categories: z.array(z.string()).readonly(),
        added: z.int().nullable().describe('Lines; null where they are not counted.'),
        removed: z.int().nullable(),
      }),
    )
    .readonly(),
  violations: z
    .array(z.strictObject({ path: z.string(), kind: z.enum(['added', 'modified', 'deleted']), class: z.string() }))
    .readonly()
    .describe('Changed outside the write scope: not exported.'),
  findings: z
    .array(
      z.strictObject({
        path: z.string(),
        kind: z.string(),
        effect: z.enum(['refused', 'noted', 'incomplete']),
        detail: z.string().optional(),
      }),
    )
    .readonly(),
  scratch: Tally,
  ignored: Tally,
  complete: z.boolean().describe('false: something could not be seen.'),
  patchBytes: z.int(),
  held: z
    .array(z.strictObject({ path: z.string(), why: z.string(), approvals: z.array(z.string()).readonly() }))
    .readonly()
    .describe('Proposed, and left behind.'),
  due: z.array(z.string()).readonly().describe('Approvals that are due before what leaves is put to use.'),
});
export type DiffView = z.infer<typeof DiffView>;
