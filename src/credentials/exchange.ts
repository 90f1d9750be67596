import type { Transform } from 'node:stream';
import type { HeldCredential } from './held-credential.ts';
import { MaskStream, maskText } from './mask.ts';
import { CredentialRefusal } from './refusal.ts';

/** Names and values in order, as they go over the wire. */
export type Headers = readonly (readonly [name: string, value: string])[];

/** Their headers tell of a body that does not come (RFC 9110, 15.3.5 and 15.4.5). */
const bodiless: ReadonlySet<number> = new Set([204, 304]);

/** One request whose answer is searched for secrets, and what it carries. */
export class Exchange {
  /** What it carries; undefined where it only goes to a host that has been sent one before. */
  readonly credential: string | undefined;
  readonly #held: HeldCredential | undefined;
  readonly #spellings: readonly Buffer[];
  readonly #abort = new AbortController();

  constructor(held: HeldCredential | undefined, spellings: readonly Buffer[]) {
    this.credential = held?.name;
    this.#held = held;
    this.#spellings = spellings;
    held?.begin(this);
  }

  /** Aborted, with a `CredentialRefusal`, when what it carries is revoked: cut both sides at once. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /**
   * Headers to pass on, and a stream that the body has to go through (after a 101, all that comes). Nothing changes its
   * length. Throws `CredentialRefusal` where the body is encoded: then nothing of it may be passed on. A reason phrase and
   * trailers are not looked at: leave them out.
   */
  response(status: number, headers: Headers): { readonly headers: Headers; readonly body: Transform } {
    if (status === 401) this.#held?.doubt();
    const encoding = bodiless.has(status)
      ? undefined
      : headers.find(
          ([name, value]) => name.toLowerCase() === 'content-encoding' && !/^(identity)?$/i.test(value.trim()),
        );
    if (encoding !== undefined)
      throw new CredentialRefusal(
        'broken',
        this.credential ?? 'mask',
        `the service answers in ${JSON.stringify(encoding[1].slice(0, 40))} though it was asked not to; such an answer cannot be searched for secrets`,
      );
    // A session that the credential has opened would be as good as itself; on these routes a client's cookies are not sent.
    const kept = headers.filter(([name]) => this.#held === undefined || name.toLowerCase() !== 'set-cookie');
    return {
      headers: kept.map(
        ([name, value]) => [maskText(name, this.#spellings), maskText(value, this.#spellings)] as const,
      ),
      body: new MaskStream(this.#spellings),
    };
  }

  /** Once the exchange is over, however it ended. May be called twice. */
  end(): void {
    this.#held?.finish(this);
  }

  cut(why: CredentialRefusal): void {
    this.#abort.abort(why);
    this.end();
  }
}
