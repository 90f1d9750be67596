import type { Fingerprint } from '../drift/fingerprint.ts';

/** What the environment of a run is, or was when it was last looked at. */
export interface FingerprintView {
  /** What it was taken for. */
  readonly at: 'open' | 'call' | 'close' | 'verify' | 'asked';
  /** By which its file and the journal call it; `fingerprint.digest` is what equal environments have in common. */
  readonly document: string;
  readonly fingerprint: Fingerprint;
}
