/** Why a request does not go out with, or in spite of, a credential. Nothing in it shows one. */
export class CredentialRefusal extends Error {
  override readonly name = 'CredentialRefusal';
  /** `denied`: the policy does not let it; `broken`: it would, but it cannot be done. */
  readonly kind: 'denied' | 'broken';
  /** `credentials.NAME`, for the record. */
  readonly rule: string;
  readonly reason: string;
  readonly hint: string;

  constructor(kind: 'denied' | 'broken', credential: string, reason: string, hint = '') {
    super(reason);
    this.kind = kind;
    this.rule = `credentials.${credential}`;
    this.reason = reason;
    this.hint = hint;
  }
}
