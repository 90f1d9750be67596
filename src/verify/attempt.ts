import type { Digest } from '../digest.ts';
import type { EffectiveGate } from '../policy/policy.ts';
import type { Outcome } from '../sandbox/outcome.ts';
import type { TestReport } from './test-reports/test-report.ts';
import type { Place, Way } from './verification.ts';

/** One run of a gate's command in a sandbox that nothing else has used. */
export interface AttemptRequest {
  readonly gate: EffectiveGate;
  readonly where: Place;
  readonly how: Way;
}

/** `unit/candidate/same`. */
export function attemptName({ gate, where, how }: AttemptRequest): string {
  return `${gate.id}/${where}/${how}`;
}

/** What it came to. Everything that the command printed or wrote is an attacker's. */
export type Attempt =
  | {
      readonly kind: 'ended';
      readonly outcome: Outcome;
      /** What it was refused on the network: host, port, why. */
      readonly egressDenied: readonly string[];
      /** What it asked of outside was refused, not answered or answered with a failure, whether or not that made it fail. */
      readonly networkTrouble?: boolean;
      /** Absent where the gate has none. */
      readonly report?: ReportRead;
      /** The last lines that it printed. */
      readonly tail: readonly string[];
    }
  /** The policy, a budget or the lack of a person did not let the command in. */
  | { readonly kind: 'refused'; readonly rule: string; readonly reason: string }
  /** There was no sandbox for it, or it was lost: nothing is known of the candidate. */
  | { readonly kind: 'unavailable'; readonly code: string; readonly message: string };

export type ReportRead =
  | { readonly kind: 'read'; readonly report: TestReport }
  | { readonly kind: 'unreadable'; readonly why: string };

export type MakeAttempt = (request: AttemptRequest) => Promise<Attempt>;

/** A run that was made for a verification. */
export interface MadeRun {
  readonly run: string;
  /** `attemptName`. */
  readonly of: string;
  readonly journal: Digest;
}
