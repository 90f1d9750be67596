import { z } from 'zod';
import { ApprovalView } from './approval-view.ts';
import { idPattern } from '../ids.ts';
import { CallId, DigestText, RunId, Time } from './fields.ts';

const verification = z.string().regex(idPattern).describe('Id of the verification.');
const common = { at: Time, run: RunId, team: z.string() };

/** What happens in the runs of a team. */
export const ServiceEvent = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('run.opened'), ...common, policy: z.string(), by: z.string() }),
  z.strictObject({ type: z.literal('run.closed'), ...common, outcome: z.string() }),
  z.strictObject({ type: z.literal('call.started'), ...common, callId: CallId, tool: z.string(), by: z.string() }),
  z.strictObject({
    type: z.literal('call.ended'),
    ...common,
    callId: CallId,
    tool: z.string(),
    outcome: z.string().describe('Kind of the outcome of a command; done, failed or denied of anything else.'),
    ms: z.number(),
  }),
  z.strictObject({ type: z.literal('verification.started'), ...common, verification, by: z.string() }),
  z.strictObject({
    type: z.literal('verification.gate'),
    ...common,
    verification,
    gate: z.string(),
    verdict: z.enum(['passed', 'needs_review', 'failed', 'broken']),
    reason: z.string(),
  }),
  z.strictObject({
    type: z.literal('verification.ended'),
    ...common,
    verification,
    outcome: z
      .enum(['passed', 'needs_review', 'failed', 'broken', 'cancelled', 'not_made'])
      .describe('The verdict; or that there is none.'),
  }),
  z.strictObject({
    type: z.literal('run.reviewed'),
    ...common,
    manifest: DigestText,
    verdict: z.enum(['accepted', 'rejected']),
    by: z.string(),
  }),
  z.strictObject({ type: z.literal('approval.asked'), ...common, approval: ApprovalView }),
  z.strictObject({ type: z.literal('approval.decided'), ...common, approval: ApprovalView }),
]);
export type ServiceEvent = z.infer<typeof ServiceEvent>;

export const EventFilter = z.strictObject({ run: RunId.optional() });
export type EventFilter = z.infer<typeof EventFilter>;
