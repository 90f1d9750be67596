import { z } from 'zod';
import { canonicalJson, digestOf, digestPattern, type Digest } from '../digest.ts';
import { Failure } from '../failures/failure.ts';
import { idPattern } from '../ids.ts';
import { riskLevels } from '../policy/language/fields.ts';

/**
 * What the gates found of one candidate. `docs/verify.md` explains every field. Text of a sandbox is in it only where it says
 * printable; paths are as they are in change sets, to be shown escaped.
 */

/** From the best to the worst. `broken`: a gate could not be judged; it denies. */
const verdicts = ['passed', 'needs_review', 'failed', 'broken'] as const;
export type Verdict = (typeof verdicts)[number];

const gateIdPattern = /^[a-z][a-z0-9._-]{0,63}$/;
export const lineCharsMax = 500;
export const evidenceLinesMax = 40;
export const failingMax = 200;
export const pathsMax = 500;

const digest = z.custom<Digest>((value) => typeof value === 'string' && digestPattern.test(value), 'not a digest');
const id = z.string().regex(idPattern);
const count = z.int().nonnegative();
/** Printable. */
const line = z.string().max(lineCharsMax);

/** The candidate as it is; its base; the candidate with the base's checks; the base with the checks of the candidate. */
const places = ['candidate', 'base', 'base_checks', 'base_with_new_checks'] as const;
export type Place = (typeof places)[number];

const ways = ['same', 'shuffled', 'no_network', 'half_cpu'] as const;
export type Way = (typeof ways)[number];

export const Attempts = z.strictObject({
  where: z.enum(places),
  how: z.enum(ways),
  runs: count,
  failed: count,
});
export type Attempts = Readonly<z.infer<typeof Attempts>>;

const stabilities = [
  'stable_pass',
  'stable_fail',
  'failed_before',
  'flaky_order',
  'flaky_network',
  'flaky_load',
  'flaky_unknown',
] as const;
export type StabilityVerdict = (typeof stabilities)[number];

export const Stability = z.strictObject({
  verdict: z.enum(stabilities),
  attempts: z.array(Attempts).max(16).readonly(),
  /** What the counts justify, and no more. */
  bound: line,
});
export type Stability = Readonly<z.infer<typeof Stability>>;

export const Tests = z.strictObject({
  passed: count,
  failed: count,
  skipped: count,
  /** Names, printable, the first of them. */
  failing: z.array(line).max(failingMax).readonly(),
});
export type Tests = Readonly<z.infer<typeof Tests>>;

export const GateResult = z.strictObject({
  id: z.string().regex(gateIdPattern),
  kind: z.enum(['builtin', 'command']),
  /** Of one that is not required, the verdict is told and counts for nothing. */
  required: z.boolean(),
  verdict: z.enum(verdicts),
  reason: line,
  evidence: z.array(line).max(evidenceLinesMax).readonly(),
  tests: Tests.optional(),
  stability: Stability.optional(),
});
export type GateResult = Readonly<z.infer<typeof GateResult>>;

export const Verification = z.strictObject({
  v: z.literal(1),
  id,
  /** The run that was verified. */
  run: id,
  at: z.iso.datetime({ precision: 3 }),
  /** Of its change set. */
  candidate: digest,
  base: z.strictObject({
    digest,
    commit: z
      .string()
      .regex(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/)
      .optional(),
  }),
  policy: digest,
  image: z.strictObject({ reference: z.string().max(4096), id: digest }),
  verdict: z.enum(verdicts),
  risk: z.strictObject({ from: z.enum(riskLevels), to: z.enum(riskLevels), because: z.array(line).max(64).readonly() }),
  /** Existing tests, their configuration and inputs of gates that the candidate changes; the first of them. */
  checksTouched: z.array(z.string().max(8192)).max(pathsMax).readonly(),
  gates: z.array(GateResult).max(128).readonly(),
  failures: z.array(Failure).max(256).readonly(),
  /** Runs without an agent that were made for it; `journal` is the hash of its last entry. */
  runs: z
    .array(z.strictObject({ run: id, of: line, journal: digest }))
    .max(2048)
    .readonly(),
});
export type Verification = Readonly<z.infer<typeof Verification>>;

/** The one text of a verification: its file, and what its digest is of. */
export function encodeVerification(verification: Verification): string {
  return canonicalJson(verification);
}

export function digestOfVerification(verification: Verification): Digest {
  return digestOf(encodeVerification(verification));
}

/** The worst of the required ones; nothing that was required is nothing that was shown. */
export function verdictOf(gates: readonly Pick<GateResult, 'required' | 'verdict'>[]): Verdict {
  const required = gates.filter((gate) => gate.required).map(({ verdict }) => verdicts.indexOf(verdict));
  return required.length === 0 ? 'broken' : (verdicts[Math.max(...required)] ?? 'broken');
}
