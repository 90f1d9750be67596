import { promises as dns } from 'node:dns';
import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { codeOf } from './connect.ts';
import { EgressFailure } from '../failure.ts';

export interface ResolutionOptions {
  /** The operator's own answers; they go before everything else, and nobody is asked. Names in lower case. */
  readonly hosts: Readonly<Record<string, readonly string[]>>;
  /** `address` or `address:port`. Empty: this machine's hosts file, then the name servers of its `resolv.conf`. */
  readonly resolvers: readonly string[];
}

const resolverTimeoutMs = 2_000;
const resolverTries = 2;
const hostsFile = '/etc/hosts';

/**
 * All the addresses of a name, IPv4 before IPv6. A name is always absolute: search domains would make it another one than the
 * policy allowed.
 */
export class Resolution {
  readonly #options: ResolutionOptions;

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
    const { hosts, resolvers } = this.#options;
    if (this.pinned(host)) return hosts[host] ?? [];
    const filed = resolvers.length > 0 ? [] : await fromHostsFile(host);
    return filed.length > 0 ? filed : await askResolvers(host, resolvers, signal);
  }
}

/**
 * By DNS alone, never by the C library: its lookups cannot be given up, and so few run at a time in a process that the silent name
 * server of one run would keep all the others waiting.
 */
async function askResolvers(host: string, servers: readonly string[], signal: AbortSignal): Promise<readonly string[]> {
  const resolver = new dns.Resolver({ timeout: resolverTimeoutMs, tries: resolverTries });
  if (servers.length > 0) resolver.setServers(servers);
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
