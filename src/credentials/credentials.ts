import { RunnerError } from '../errors.ts';
import type { EffectiveCredential } from '../policy/layers/effective-egress.ts';
import { Exchange, type Headers } from './exchange.ts';
import { HeldCredential } from './held-credential.ts';
import { Mask } from './mask.ts';
import { holds, replaced, urlHolds } from './placeholders.ts';
import { CredentialRefusal } from './refusal.ts';
import { findSource, type SourceParts } from './sources.ts';

export interface CredentialsParts extends SourceParts {
  /** By name, as the policy says. */
  readonly credentials: Readonly<Record<string, EffectiveCredential>>;
  /** By name: what stands for them inside already, where a run goes on. */
  readonly placeholders?: Readonly<Record<string, string>>;
  readonly nowMs?: () => number;
}

/** A request that the rules allow, before anything of it is sent. */
export interface Outgoing {
  /** Absent where it is only observed that no rule allows it. */
  readonly rule: { readonly id: string; readonly credential?: string } | undefined;
  readonly method: string;
  /** As it was judged. */
  readonly url: URL;
  readonly headers: Headers;
}

export interface Prepared {
  readonly headers: Headers;
  /** Where the answer has to be searched. `end()` it, whatever happens. */
  readonly carried?: Exchange;
}

/**
 * The secrets of one run. Promises:
 *  - one is sent only to its host, with its methods and paths, over TLS; a revoked one is not sent any more;
 *  - inside there are placeholders; one that is sent where its credential does not belong is refused;
 *  - on such a route nothing that the client brings of its own says who it is;
 *  - what comes back is searched for it, on every request to a host that has been sent it.
 */
export class Credentials {
  readonly #held: ReadonlyMap<string, HeldCredential>;

  private constructor(held: ReadonlyMap<string, HeldCredential>) {
    this.#held = held;
  }

  /** Asks no source. Throws `policy_unenforceable` where one cannot be had, `invalid_policy` where two look alike inside. */
  static open(parts: CredentialsParts): Credentials {
    const held = new Map<string, HeldCredential>();
    const variables = new Map<string, string>();
    for (const [name, terms] of Object.entries(parts.credentials)) {
      const twin = variables.get(variableOf(name));
      if (twin !== undefined)
        throw new RunnerError(
          'invalid_policy',
          `the credentials ${twin} and ${name} have one variable inside; rename one`,
        );
      variables.set(variableOf(name), name);
      const source = findSource(name, terms.source, parts);
      const placeholder = parts.placeholders?.[name];
      held.set(name, new HeldCredential(name, terms, source, parts.nowMs ?? (() => performance.now()), placeholder));
    }
    return new Credentials(held);
  }

  /** For the environment of calls: what stands for each of them inside. */
  environment(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.#held.values()].map(({ name, placeholder }) => [variableOf(name), placeholder]));
  }

  /** By name. */
  get placeholders(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.#held].map(([name, { placeholder }]) => [name, placeholder]));
  }

  get names(): readonly string[] {
    return [...this.#held.keys()];
  }

  get revoked(): readonly string[] {
    return [...this.#held.values()].filter(({ isRevoked }) => isRevoked).map(({ name }) => name);
  }

  /** A text that somebody outside gives to be kept with the run, without any of them that was sent so far. */
  mask(text: string): string {
    const bytes = Buffer.from(text);
    const mask = new Mask([...this.#held.values()].flatMap(({ spellings }) => spellings));
    const masked = Buffer.concat([mask.push(bytes), mask.end()]);
    return masked.equals(bytes) ? text : masked.toString('utf8');
  }

  /** How many open requests carried it: they are cut. Throws `invalid_request` where the run has no such credential. */
  revoke(name: string): number {
    const held = this.#held.get(name);
    if (held !== undefined) return held.revoke();
    const known = this.names.length === 0 ? 'it has none' : `it has ${this.names.join(', ')}`;
    throw new RunnerError(
      'invalid_request',
      `this run has no credential ${JSON.stringify(name.slice(0, 64))}; ${known}`,
    );
  }

  /** What to send for it. Rejects with `CredentialRefusal`: then nothing may be sent. */
  async prepare(asked: Outgoing): Promise<Prepared> {
    const held = this.#chosen(asked);
    if (held === undefined) return this.#unaccompanied(asked);
    const why = held.binding.mismatch(asked.method, asked.url);
    if (why !== undefined)
      throw new CredentialRefusal(
        'denied',
        held.name,
        `the credential ${held.name} does not go with ${asked.method} ${asked.url.origin}${asked.url.pathname}: it is ${why}`,
        `Widen credentials.${held.name} of the policy, or ask for what it is bound to.`,
      );
    const secret = (await held.secret()).reveal();
    const carries = ([, value]: Headers[number]): boolean => holds(value, held.placeholder);
    const kept = asked.headers.filter((header) => carries(header) || !isStripped(header[0], held.header));
    const filled = kept.map(([name, value]) => [name, replaced(value, held.placeholder, secret)] as const);
    const attached = kept.some(carries) ? [] : [[held.header, held.format.replaceAll('{}', () => secret)] as const];
    const carried = new Exchange(held, this.#spellingsFor(asked.url, held));
    return { headers: [...readable(filled), ...attached], carried };
  }

  /** The rule's. A placeholder of another one, or in another place, is refused. */
  #chosen(asked: Outgoing): HeldCredential | undefined {
    const { rule, url, headers } = asked;
    const chosen = rule?.credential === undefined ? undefined : this.#held.get(rule.credential);
    if (rule?.credential !== undefined && chosen === undefined)
      throw new CredentialRefusal('denied', rule.credential, `this run has no credential ${rule.credential}`);
    for (const held of this.#held.values()) {
      const inUrl = urlHolds(url, held.placeholder);
      const bearing = headers.filter((header) => header.some((text) => holds(text, held.placeholder)));
      if (!inUrl && bearing.length === 0) continue;
      const isItsPlace = bearing.every(([name]) => mayHold(name, held));
      throwIfElsewhere(held, asked, [
        held.binding.mismatch(asked.method, url),
        inUrl ? 'never put into a URL' : undefined,
        isItsPlace ? undefined : `put into ${held.header} and Authorization only`,
        chosen === held ? undefined : 'sent only by rules that name it',
      ]);
    }
    return chosen;
  }

  /** What carries nothing goes as it is; what answers may still know what was sent there before. */
  #unaccompanied({ url, headers }: Outgoing): Prepared {
    const spellings = this.#spellingsFor(url, undefined);
    if (spellings.length === 0) return { headers };
    return { headers: readable(headers), carried: new Exchange(undefined, spellings) };
  }

  #spellingsFor(url: URL, carried: HeldCredential | undefined): readonly Buffer[] {
    return [...this.#held.values()]
      .filter((held) => held === carried || held.binding.isHost(url))
      .flatMap((held) => held.spellings);
  }
}

function variableOf(name: string): string {
  return `GLOVEBOX_CREDENTIAL_${name.toUpperCase().replaceAll('-', '_')}`;
}

const identifying: ReadonlySet<string> = new Set(['authorization', 'cookie', 'proxy-authorization', 'x-api-key']);

function isStripped(name: string, own: string): boolean {
  return identifying.has(name.toLowerCase()) || name.toLowerCase() === own.toLowerCase();
}

function mayHold(name: string, { header }: HeldCredential): boolean {
  return name.toLowerCase() === 'authorization' || name.toLowerCase() === header.toLowerCase();
}

/** What would bring the answer in a form, or in parts, in which a secret is not found. */
const unreadable: ReadonlySet<string> = new Set([
  'accept-encoding',
  'range',
  'if-range',
  'te',
  'a-im',
  'sec-websocket-extensions',
]);

function readable(headers: Headers): Headers {
  return [...headers.filter(([name]) => !unreadable.has(name.toLowerCase())), ['Accept-Encoding', 'identity']];
}

function throwIfElsewhere(
  { name }: HeldCredential,
  { method, url }: Outgoing,
  reasons: readonly (string | undefined)[],
): void {
  const why = reasons.find((reason) => reason !== undefined);
  if (why === undefined) return;
  throw new CredentialRefusal(
    'denied',
    name,
    `the placeholder of the credential ${name} was sent with ${method} ${url.origin}, where it does not belong: it is ${why}`,
    `It is worth something only where credentials.${name} of the policy says, and where a rule names it.`,
  );
}
