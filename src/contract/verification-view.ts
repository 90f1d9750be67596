import type { Verification } from '../verify/verification.ts';

/** The newest verification of a run, which is the one that holds. */
export interface VerificationView {
  /** sha256 of its canonical JSON. */
  readonly digest: string;
  readonly verification: Verification;
}
