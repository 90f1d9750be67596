import { z } from 'zod';
import { printable } from '../journal/printable.ts';

/** Why something did not come out as it was to: one word for people, rules and statistics. `docs/verify.md` lists them. */
const failureClasses = [
  'policy',
  'approval',
  'budget',
  'constraint_violation',
  'semantic_defect',
  'environment_mismatch',
  'tool_timeout',
  'rate_limit',
  'permission_mismatch',
  'partial_promotion',
  'flaky_verifier',
  'not_repeatable',
  'infrastructure',
] as const;
export type FailureClass = (typeof failureClasses)[number];

/** Who has to change something for it to come out otherwise. */
const attributions = ['agent', 'policy', 'environment', 'infrastructure'] as const;
export type Attribution = (typeof attributions)[number];

const evidenceCharsMax = 500;

export const Failure = z.strictObject({
  class: z.enum(failureClasses),
  attribution: z.enum(attributions),
  /** The same again, without any change, may come out otherwise. */
  retryable: z.boolean(),
  /** `gate unit`, `call build-1`, `run`. */
  where: z.string().min(1).max(200),
  /** Printable: what a sandbox says may be in it. */
  evidence: z.string().max(evidenceCharsMax),
});
export type Failure = Readonly<z.infer<typeof Failure>>;

/** As evidence: printable, and no longer than that may be. */
export function failureEvidence(text: string): string {
  const shown = printable(text);
  return shown.length <= evidenceCharsMax ? shown : `${shown.slice(0, evidenceCharsMax - 1)}…`;
}
