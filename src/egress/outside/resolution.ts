import { promises as dns } from 'node:dns';
import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { Slots } from '../../slots.ts';
import { codeOf } from './connect.ts';
import { EgressFailure } from '../failure.ts';

export interface ResolutionOptions {
  /** The operator's own answers; they go before everything else, and nobody is asked. Names in lower case. */
  readonly hosts: Readonly<Record<string, readonly string[]>>;
  /** `address` or `address:port`. Empty: as this machine resolves. */
  readonly resolvers: readonly string[];
}

/** Lookups of this machine cannot be cancelled: so many may be under way, the others wait in line. */
const lookupsMax = 16;
const resolverTimeoutMs = 2_000;
const resolverTries = 2;
const hostsFile = '/etc/hosts';

/**
 * All the addresses of a name, IPv4 before IPv6 unless the machine orders them. A name is always absolute: search domains
 * would make it another one than the policy allowed.
 */
export class Resolution {
  readonly #options: ResolutionOptions;
  readonly #lookups = new Slots(lookupsMax);

  constructor(options: ResolutionOptions) {
    this.#options = options;
  }

  /** The operator has said where it is. */
  pinned(host: string): boolean {
    return Object.hasOwn(this.#options.hosts, host);
  }

  /** Never empty. Rejects with `unresolvable` or `timed_out`, or with the signal's reason. */
  async addresses(host: string, signal: AbortSignal): Promise<readonly string[]> {
    const found = await this.#found(host, signal);
    const distinct = [...new Set(found)];
    if (distinct.length === 0) throw new EgressFailure('unresolvable', `${host} has no address`);
    return distinct;
  }

  async #found(host: string, signal: AbortSignal): Promise<readonly string[]> {
    if (this.pinned(host)) return this.#options.hosts[host] ?? [];
    if (this.#options.resolvers.length > 0) return await askResolvers(host, this.#options.resolvers, signal);
    const filed = await fromHostsFile(host);
    return filed.length > 0 ? filed : await this.#lookups.run(() => lookup(host, signal));
  }
}

async function lookup(host: string, signal: AbortSignal): Promise<readonly string[]> {
  signal.throwIfAborted();
  try {
    const answers = await dns.lookup(`${host}.`, { all: true, verbatim: true });
    return answers.map((answer) => answer.address);
  } catch (error) {
    throw unresolved(host, error);
  }
}

async function askResolvers(host: string, servers: readonly string[], signal: AbortSignal): Promise<readonly string[]> {
  const resolver = new dns.Resolver({ timeout: resolverTimeoutMs, tries: resolverTries });
  resolver.setServers(servers);
  const cancel = (): void => resolver.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  try {
    const answers = await Promise.allSettled([resolver.resolve4(`${host}.`), resolver.resolve6(`${host}.`)]);
    signal.throwIfAborted();
    const addresses = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
    if (addresses.length > 0) return addresses;
    throw unresolved(host, worstOf(answers));
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}

/** "No such data" of one family says less than a resolver that is silent for the other. */
function worstOf(answers: readonly PromiseSettledResult<unknown>[]): unknown {
  const reasons = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason as unknown] : []));
  return reasons.find((reason) => codeOf(reason) !== 'ENODATA') ?? reasons[0];
}

/** The C library leaves this file aside for a name with a dot at its end. */
async function fromHostsFile(host: string): Promise<readonly string[]> {
  const text = await readFile(hostsFile, 'utf8').catch(() => '');
  return text.split('\n').flatMap((line) => {
    const [address, ...names] = (line.split('#')[0] ?? '').trim().split(/\s+/);
    const named = names.some((name) => name.toLowerCase() === host);
    return named && address !== undefined && isIP(address) !== 0 ? [address] : [];
  });
}

function unresolved(host: string, error: unknown): EgressFailure {
  const code = codeOf(error) ?? 'no answer';
  if (code === 'ETIMEOUT' || code === 'ECANCELLED') {
    return new EgressFailure('timed_out', `no resolver answered in time for ${host}`, { cause: error });
  }
  return new EgressFailure('unresolvable', `${host} could not be resolved (${code})`, { cause: error });
}
