import { z } from 'zod';
import { errorTable, type ErrorCode } from '../errors.ts';
import { idPattern } from '../ids.ts';
import type { GateResult, Verification } from '../verify/verification.ts';
import { DigestText, RunId, Time } from './fields.ts';

/** The newest verification of a run, which is the one that holds. */
export interface VerificationView {
  /** sha256 of its canonical JSON. */
  readonly digest: string;
  readonly verification: Verification;
}

export const VerificationId = z.string().regex(idPattern).describe('Id of a verification.');

const object = <T>() => z.custom<T>((value) => typeof value === 'object' && value !== null).meta({ type: 'object' });

/** One that is made, or was. */
export const VerificationState = z.strictObject({
  id: VerificationId,
  run: RunId,
  state: z
    .enum(['running', 'ended', 'failed', 'cancelled'])
    .describe('`failed`: there is none, and `problem` says why; `ended` with any verdict.'),
  by: z.string().nullable().describe('Who asked for it; null of one that ended before the service began.'),
  step: z.int().describe('Counts up with each attempt and each gate: wait for more than you have seen.'),
  attempt: z.string().nullable().describe('What is done now: `gate/where/how`.'),
  gates: z.array(object<GateResult>()).readonly().describe('Judged so far, as in verify.md.'),
  digest: DigestText.nullable().describe('Of the verification, once it ended.'),
  verification: object<Verification>().nullable().describe('As in verify.md.'),
  problem: z
    .strictObject({
      code: z.enum(Object.keys(errorTable) as [ErrorCode, ...ErrorCode[]]),
      detail: z.string(),
      retryable: z.boolean(),
    })
    .nullable(),
});
export type VerificationState = z.infer<typeof VerificationState>;

export const VerificationList = z.strictObject({
  verifications: z
    .array(z.strictObject({ id: VerificationId, at: Time, verdict: z.string(), digest: DigestText }))
    .readonly()
    .describe('That were kept, the newest first: the first one holds.'),
  running: VerificationState.nullable(),
});
export type VerificationList = z.infer<typeof VerificationList>;

export const StartVerification = z.strictObject({
  after: VerificationId.optional().describe(
    'One that is not enough: a newer one is wanted. Without it any will do, and the newest is the answer where there is one.',
  ),
});
export type StartVerification = z.infer<typeof StartVerification>;
