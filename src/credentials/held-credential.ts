import { randomBytes } from 'node:crypto';
import { messageOf } from '../errors.ts';
import type { EffectiveCredential } from '../policy/layers/effective-egress.ts';
import { Binding } from './binding.ts';
import type { Exchange } from './exchange.ts';
import { CredentialRefusal } from './refusal.ts';
import type { Secret } from './secret.ts';
import type { Source } from './sources.ts';
import { spellingsOf } from './spellings.ts';

/** After a failure, and after a 401, the source is not asked again for so long. */
const pauseMs = 5_000;
/** Values that are still looked for in answers: the one that is used and those before it. */
const valuesMax = 4;

/** One credential of a run: fetched when it is first needed, kept for its `ttl`, gone when it is revoked. */
export class HeldCredential {
  readonly name: string;
  readonly binding: Binding;
  readonly header: string;
  readonly format: string;
  /** Stands for it inside the sandbox; worth nothing elsewhere. */
  readonly placeholder: string;
  readonly #ttlMs: number;
  readonly #source: Source;
  readonly #nowMs: () => number;
  readonly #exchanges = new Set<Exchange>();
  #values: readonly { readonly secret: Secret; readonly spellings: readonly Buffer[] }[] = [];
  #fetching: Promise<Secret> | undefined;
  #freshUntilMs = 0;
  #fetchedMs = Number.NEGATIVE_INFINITY;
  #failure: { readonly refusal: CredentialRefusal; readonly untilMs: number } | undefined;
  #revoked = false;

  /** `placeholder`: what stands for it already, in a run that goes on. */
  constructor(
    name: string,
    terms: EffectiveCredential,
    source: Source,
    nowMs: () => number,
    placeholder = `glovebox-credential-${name}-${randomBytes(16).toString('hex')}`,
  ) {
    this.name = name;
    this.binding = new Binding(terms);
    this.header = terms.header;
    this.format = terms.format;
    this.placeholder = placeholder;
    this.#ttlMs = terms.ttlMs;
    this.#source = source;
    this.#nowMs = nowMs;
  }

  /** Rejects with `CredentialRefusal`. Asked by many at once, the source is asked once. */
  async secret(): Promise<Secret> {
    this.#refuseRevoked();
    const known = this.#values[0]?.secret;
    const nowMs = this.#nowMs();
    if (known !== undefined && nowMs < this.#freshUntilMs) return known;
    if (this.#failure !== undefined && nowMs < this.#failure.untilMs) throw this.#failure.refusal;
    this.#fetching ??= this.#fetch().finally(() => (this.#fetching = undefined));
    const secret = await this.#fetching;
    this.#refuseRevoked();
    return secret;
  }

  async #fetch(): Promise<Secret> {
    try {
      const secret = await this.#source();
      if (this.#values[0]?.secret.equals(secret) !== true)
        this.#values = [{ secret, spellings: spellingsOf(secret) }, ...this.#values].slice(0, valuesMax);
      this.#fetchedMs = this.#nowMs();
      this.#freshUntilMs = this.#fetchedMs + this.#ttlMs;
      this.#failure = undefined;
      return secret;
    } catch (error) {
      const refusal = new CredentialRefusal(
        'broken',
        this.name,
        messageOf(error),
        'The operator of the runner has to mend it.',
      );
      this.#failure = { refusal, untilMs: this.#nowMs() + pauseMs };
      throw refusal;
    }
  }

  /** The service did not take it: the next request asks the source again, where it has not just been asked. */
  doubt(): void {
    if (this.#nowMs() - this.#fetchedMs >= pauseMs) this.#freshUntilMs = 0;
  }

  /** How it may look in what comes back. */
  get spellings(): readonly Buffer[] {
    return this.#values.flatMap(({ spellings }) => spellings);
  }

  get isRevoked(): boolean {
    return this.#revoked;
  }

  /** Open requests that carry it are aborted before this returns. It is still looked for in what comes back. */
  revoke(): number {
    this.#revoked = true;
    const open = [...this.#exchanges];
    for (const exchange of open) exchange.cut(this.#revokedRefusal());
    return open.length;
  }

  begin(exchange: Exchange): void {
    this.#refuseRevoked();
    this.#exchanges.add(exchange);
  }

  finish(exchange: Exchange): void {
    this.#exchanges.delete(exchange);
  }

  #refuseRevoked(): void {
    if (this.#revoked) throw this.#revokedRefusal();
  }

  #revokedRefusal(): CredentialRefusal {
    return new CredentialRefusal('denied', this.name, `the credential ${this.name} was revoked in this run`);
  }
}
