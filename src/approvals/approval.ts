import { z } from 'zod';
import { canonicalJson, digestOf, digestPattern, type Digest } from '../digest.ts';
import { idPattern } from '../ids.ts';

/** What a person is asked, whole: what they see is what will happen, and nothing else can ride on their answer. */
export const ApprovalRequest = z.strictObject({
  id: z.string().regex(idPattern),
  run: z.string().regex(idPattern),
  callId: z.string().max(64).optional(),
  category: z.string().max(64),
  /** Before a call runs, or before changes leave the sandbox. */
  at: z.enum(['call', 'export', 'budget']),
  /** Text of the sandbox: to be shown escaped. */
  subject: z.string().max(8000),
  rule: z.string().max(300),
  /** What it would reach, in words. */
  reach: z.string().max(2000),
  note: z.string().max(500),
  quorum: z.int().min(1).max(10),
  reasonRequired: z.boolean(),
  /** Of the exact call or change, the policy, the base and the run. */
  digest: z.custom<Digest>((value) => typeof value === 'string' && digestPattern.test(value), 'not a digest'),
  /** Wall clock: it has to hold across a restart. */
  askedAt: z.iso.datetime(),
  expiresAt: z.iso.datetime(),
});
export type ApprovalRequest = z.infer<typeof ApprovalRequest>;

/** One person's answer. */
export interface Verdict {
  readonly approve: boolean;
  /** Who answers. Two answers of one name count once. */
  readonly by: string;
  readonly reason?: string;
}

/**
 * Asks people, as many as there are. Fewer than the quorum is a denial, so is anything thrown. `signal` says that nobody waits
 * for the answer any more.
 */
export type Approver = (request: ApprovalRequest, signal: AbortSignal) => Promise<readonly Verdict[]>;

export type ApprovalOutcome =
  | { readonly kind: 'approved'; readonly by: readonly string[]; readonly reason: string }
  | { readonly kind: 'denied' | 'expired' | 'broken'; readonly by: readonly string[]; readonly reason: string };

/** What an approval holds for: this very call or change, under this policy, on this base, in this run. */
export function bindingOf(subject: unknown, bound: { policy: Digest; base: string; run: string }): Digest {
  return digestOf(canonicalJson({ ...bound, subject: digestOf(canonicalJson(subject)) }));
}

/** What the answers of people come to. */
export function outcomeOf(request: ApprovalRequest, verdicts: readonly Verdict[]): ApprovalOutcome {
  const no = verdicts.find(({ approve }) => !approve);
  if (no !== undefined) return { kind: 'denied', by: [clip(no.by)], reason: clip(no.reason ?? 'no reason was given') };
  const valid = verdicts.filter(({ reason = '' }) => !request.reasonRequired || reason.trim() !== '');
  const by = [...new Set(valid.map((verdict) => clip(verdict.by)))];
  const reason = clip(
    valid
      .map((verdict) => verdict.reason ?? '')
      .filter(Boolean)
      .join('; '),
  );
  if (by.length >= request.quorum) return { kind: 'approved', by, reason };
  const missing =
    valid.length < verdicts.length
      ? 'an approval has to say why'
      : `${request.quorum} people have to approve, ${by.length} did`;
  return { kind: 'denied', by, reason: missing };
}

function clip(text: string): string {
  return text.slice(0, 500);
}
