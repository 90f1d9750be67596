import { z } from 'zod';
import { Intent, type IntentInput } from '../policy/language/intent.ts';
import { DigestText, queryNumber, RunId, Time } from './fields.ts';
import { WorkspaceId } from './workspace-view.ts';

const runNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
export const policyNamePattern = /^[a-z][a-z0-9-]{0,63}$/;

const RunName = z.string().regex(runNamePattern).describe('A name for people; need not be the only one.');
/** As it is written, sizes with their units: it is understood, and refused, together with the policy that it narrows. */
const WholeIntent = z
  .custom<IntentInput>((value) => typeof value === 'object' && value !== null && !Array.isArray(value), 'an object')
  .meta(z.toJSONSchema(Intent, { io: 'input', unrepresentable: 'any' }));
const IntentField = z.union([z.string().max(4096), WholeIntent]);

export const OpenRun = z
  .strictObject({
    policy: z
      .union([
        z.strictObject({ name: z.string().regex(policyNamePattern).describe('One that the service offers.') }),
        z.strictObject({ text: z.string().min(1).max(262_144).describe('YAML; for keys that may use any policy.') }),
      ])
      .default({ name: 'default' }),
    taskClass: z.string().min(1).max(100).optional().describe('Where the policy has task classes.'),
    workspace: z
      .string()
      .min(1)
      .max(4096)
      .optional()
      .describe('Directory of the machine of the service, below its roots. Default: an empty workspace.'),
    base: z
      .string()
      .min(1)
      .max(200)
      .optional()
      .describe('Instead of a workspace: one that was imported before; for the owner of the machine.'),
    uploaded: WorkspaceId.optional().describe('Instead of a workspace: one that was uploaded, by its id.'),
    image: z.string().min(1).max(200).optional().describe("One of the policy's; default its first."),
    intent: IntentField.optional().describe('What the run is for, recorded first; or all that narrows its policy.'),
    name: RunName.optional(),
  })
  .refine(
    ({ workspace, base, uploaded }) => [workspace, base, uploaded].filter((one) => one !== undefined).length <= 1,
    'one of workspace, uploaded and base',
  );
export type OpenRun = z.infer<typeof OpenRun>;
export type OpenRunInput = z.input<typeof OpenRun>;

const left = z.int().nullable();

/** What is left; null = no bound. */
export const BudgetView = z.strictObject({
  calls: z.int(),
  byTag: z.record(z.string(), z.int()),
  denied: z.int(),
  deniedInARow: left,
  approvals: z.int(),
  parallel: z.int(),
  perMinute: left,
  outputBytes: z.int(),
  wallClockMs: z.number(),
  cpuMs: z.number().nullable(),
});
export type BudgetView = z.infer<typeof BudgetView>;

export const RunView = z.strictObject({
  id: RunId,
  name: z.string().nullable(),
  state: z.enum(['opening', 'open', 'closed']),
  policy: z.string(),
  lane: z.string().nullable(),
  class: z.string().nullable(),
  team: z.string(),
  openedBy: z.string().describe('An identity.'),
  openedAt: Time,
  closedAt: Time.nullable(),
  outcome: z.string().nullable().describe('finished, failed, cancelled or lost; null while it is open.'),
  summary: z.string().nullable().describe('What it was closed with, or is being stopped for; null: nobody has said.'),
  image: z.string().nullable().describe('As it was asked for; null where the run is not open here.'),
  base: DigestText.nullable().describe('Of the files it started from.'),
  budget: BudgetView.nullable().describe('What is left; null where the run is not open.'),
});
export type RunView = z.infer<typeof RunView>;

export const RunFilter = z.strictObject({
  state: z.enum(['opening', 'open', 'closed']).optional(),
  name: RunName.optional(),
  limit: queryNumber(1, 500).optional(),
  cursor: RunId.optional().describe('`next` of the page before.'),
});
export type RunFilter = z.infer<typeof RunFilter>;

export const RunPage = z.strictObject({
  runs: z.array(RunView).readonly().describe('Newest first.'),
  next: z.string().nullable().describe('Give it as `cursor` for the rest; null: this is all.'),
});
export type RunPage = z.infer<typeof RunPage>;

export const CloseRun = z.strictObject({
  reason: z.enum(['finished', 'failed', 'cancelled']).default('finished'),
  summary: z.string().max(4000).default(''),
});
export type CloseRun = z.infer<typeof CloseRun>;

const snapshotId = z
  .string()
  .regex(/^[0-9a-z]{26}$/)
  .describe('Id of a snapshot of this run.');

export const TakeSnapshot = z.strictObject({
  scratch: z.boolean().default(false).describe('With what is never exported.'),
});
export type TakeSnapshot = z.infer<typeof TakeSnapshot>;
export const SnapshotView = z.strictObject({
  id: snapshotId,
  run: RunId,
  digest: DigestText,
  scratch: z.boolean(),
  changes: z.int(),
  takenAt: Time,
});
export type SnapshotView = z.infer<typeof SnapshotView>;
export const SnapshotList = z.strictObject({ snapshots: z.array(SnapshotView).readonly() });
export const RestoreSnapshot = z.strictObject({ snapshot: snapshotId });
const ForkIntent = Intent.pick({ summary: true, requirements: true, constraints: true, model: true });
export const ForkRun = z.strictObject({
  count: z.int().min(1).max(64).default(1),
  taskClass: z.string().min(1).max(100).optional().describe('In another lane maybe. Default: that of the run.'),
  intent: z
    .union([z.string().max(4096), ForkIntent])
    .optional()
    .describe('What it is for; the rest is as in the run.'),
  snapshot: snapshotId.optional().describe('Default: as the run stands now.'),
});
export type ForkRun = z.infer<typeof ForkRun>;
export const ForkedRuns = z.strictObject({ runs: z.array(RunView).readonly() });
