import { z } from 'zod';
import { ApprovalRequest } from '../approvals/approval.ts';
import { RunId, Time } from './fields.ts';

export const ApprovalView = z.strictObject({
  ...ApprovalRequest.shape,
  state: z.enum(['pending', 'approved', 'denied', 'expired']),
  verdicts: z
    .array(z.strictObject({ by: z.string(), approve: z.boolean(), reason: z.string(), at: Time }))
    .readonly()
    .describe('So far; those of whoever takes part in the run do not count.'),
});
export type ApprovalView = z.infer<typeof ApprovalView>;

export const ApprovalFilter = z.strictObject({
  run: RunId.optional(),
  state: z.enum(['pending', 'decided']).optional().describe('Default: both.'),
});
export type ApprovalFilter = z.infer<typeof ApprovalFilter>;

export const ApprovalList = z.strictObject({ approvals: z.array(ApprovalView).readonly() });

export const DecideApproval = z.strictObject({
  approve: z.boolean(),
  reason: z.string().max(500).default('').describe('Some categories want one.'),
});
export type DecideApproval = z.infer<typeof DecideApproval>;
