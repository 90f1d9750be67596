/** One thing an engine can or cannot do, what that means, and how to get it. */
export interface Check {
  readonly id: string;
  /** `limited`: it works, but a promise is weaker or could not be tried out. */
  readonly ok: 'yes' | 'no' | 'limited';
  readonly found: string;
  readonly means: string;
  /** Empty when there is nothing to do. */
  readonly remedy: string;
}
