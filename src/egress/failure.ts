/** The four ways to fail that a client has to tell apart, and the two in which something that had begun ends. */
export type FailureKind = 'denied' | 'unresolvable' | 'refused' | 'timed_out' | 'cut' | 'broken';

/** Why nothing passes, or passes any longer. `denied` is ours; the others are the network's or a bound's. */
export class EgressFailure extends Error {
  override readonly name = 'EgressFailure';
  readonly kind: FailureKind;
  /** The rule that refused, where one did. */
  readonly rule: string | undefined;
  readonly reason: string;
  /** What would allow it, for whoever reads the refusal. */
  readonly hint: string;

  constructor(
    kind: FailureKind,
    reason: string,
    more: { readonly rule?: string | undefined; readonly hint?: string; readonly cause?: unknown } = {},
  ) {
    super(reason, more.cause === undefined ? undefined : { cause: more.cause });
    this.kind = kind;
    this.reason = reason;
    this.rule = more.rule;
    this.hint = more.hint ?? '';
  }
}
