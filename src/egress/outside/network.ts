import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { BlockList, isIP, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import {
  connect as connectTls,
  createSecureContext,
  rootCertificates,
  type SecureContext,
  type TLSSocket,
} from 'node:tls';
import { messageOf, RunnerError } from '../../errors.ts';
import { Bound } from './bound.ts';
import { codeOf, connectAddress, connectUnix } from './connect.ts';
import { CorporateProxy } from './corporate-proxy.ts';
import { EgressFailure } from '../failure.ts';
import type { AddressDecision, Upstream } from '../checkpoint/judge.ts';
import { Resolution } from './resolution.ts';

/** The operator's part: how this machine gets out. */
export interface NetworkOptions {
  readonly proxy?: string | undefined;
  readonly noProxy?: readonly string[];
  /** Certificates in PEM that are trusted beside Node's own. */
  readonly ca?: readonly string[];
  readonly hosts?: Readonly<Record<string, readonly string[]>>;
  readonly resolvers?: readonly string[];
}

export interface DialAsk {
  readonly host: string;
  readonly port: number;
  /** Asked for every address of the name, before any of them is dialled. */
  readonly check: (address: string) => AddressDecision;
  /** For resolving and connecting together. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface Dialled {
  readonly socket: Socket;
  /** `null`: the operator's proxy has resolved the name, or it is a socket of this machine. */
  readonly address: string | null;
}

export interface WaitOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** Of a name's answers so many are tried, in their order. */
const attemptsMax = 3;
const waitMs = 10_000;

/**
 * How the runner reaches what a decision has allowed; nothing here decides. Promises:
 *  - a name is resolved once for a dial, and after the decision; one bad answer among many refuses them all;
 *  - what is dialled is one of the addresses that were checked, as an address: nobody is asked again;
 *  - denied, unresolvable, refused and timed out are four failures, and none waits longer than it was told.
 */
export class Network {
  readonly #resolution: Resolution;
  readonly #proxy: CorporateProxy | undefined;
  readonly #trust: SecureContext;

  constructor(options: NetworkOptions = {}) {
    const { proxy, ca = [] } = options;
    this.#resolution = new Resolution({ hosts: options.hosts ?? {}, resolvers: options.resolvers ?? [] });
    this.#proxy = proxy === undefined ? undefined : new CorporateProxy({ proxy, noProxy: options.noProxy ?? [] });
    // Without `ca`, Node takes its own and those of NODE_EXTRA_CA_CERTS; with it, exactly what is named.
    this.#trust = createSecureContext({
      minVersion: 'TLSv1.2',
      ...(ca.length > 0 ? { ca: [...rootCertificates, ...ca] } : {}),
    });
  }

  /** `caFiles` are read now, so that a missing one is known before a run begins. */
  static async open(options: NetworkOptions & { readonly caFiles?: readonly string[] }): Promise<Network> {
    const { caFiles = [] } = options;
    const files = caFiles.length === 0 ? [] : [...caFiles, ...ownExtra()];
    const texts = await Promise.all(files.map((file) => readBundle(file)));
    return new Network({ ...options, ca: [...(options.ca ?? []), ...texts] });
  }

  /** Rejects with an `EgressFailure`. The socket is half-open capable and reads nothing yet. */
  async dial(ask: DialAsk): Promise<Dialled> {
    const host = plainHost(ask.host);
    const what = `${host}:${ask.port}`;
    const bound = new Bound(ask.timeoutMs, what, ask.signal);
    try {
      if (isIP(host) !== 0) this.#judge([host], ask);
      if (this.#proxy?.serves(host) === true && !this.#resolution.pinned(host)) {
        const secure = (socket: Socket, name: string, signal: AbortSignal): Promise<Socket> =>
          this.secure(socket, name, ['http/1.1'], { signal });
        return { socket: await this.#proxy.tunnel(host, ask.port, secure, bound.signal), address: null };
      }
      if (isIP(host) !== 0) return await dialInOrder([host], ask.port, what, bound);
      const addresses = await bound.race(this.#resolution.addresses(host, bound.signal));
      this.#judge(addresses, ask);
      return await dialInOrder(addresses, ask.port, what, bound);
    } finally {
      bound.clear();
    }
  }

  /** What the policy named as an upstream is where the policy says it is: its address is not judged. */
  async dialUpstream(upstream: Upstream, options: WaitOptions = {}): Promise<Dialled> {
    const what = `upstream ${upstream.id}`;
    const { to } = upstream;
    const bound = new Bound(options.timeoutMs ?? waitMs, what, options.signal);
    try {
      if (to.kind === 'unix') return { socket: await connectUnix(to.path, what, bound.signal), address: null };
      const host = plainHost(to.host);
      const addresses = isIP(host) !== 0 ? [host] : await bound.race(this.#resolution.addresses(host, bound.signal));
      return await dialInOrder(addresses, to.port, what, bound);
    } finally {
      bound.clear();
    }
  }

  /**
   * TLS as a client that verifies: the chain against Node's own roots and the operator's, the certificate against `host`.
   * `alpn` in order of preference. Rejects with `refused` when that fails, `timed_out`, or what `signal` says; the socket is gone then.
   */
  async secure(socket: Socket, host: string, alpn: readonly string[], options: WaitOptions = {}): Promise<TLSSocket> {
    const name = plainHost(host);
    const bound = new Bound(options.timeoutMs ?? waitMs, `TLS with ${name}`, options.signal);
    const secured = connectTls({
      socket,
      host: name,
      ...(isIP(name) === 0 ? { servername: name } : {}),
      ALPNProtocols: [...alpn],
      secureContext: this.#trust,
      rejectUnauthorized: true,
    });
    try {
      return await bound.race(handshaken(secured, name));
    } catch (error) {
      secured.destroy();
      socket.destroy();
      throw error;
    } finally {
      bound.clear();
    }
  }

  #judge(addresses: readonly string[], ask: DialAsk): void {
    const own = ownAddresses();
    for (const address of addresses) {
      const decision = ask.check(address);
      if (decision.kind === 'denied') {
        throw new EgressFailure('denied', `${ask.host} is ${address}: ${decision.reason}`, { rule: decision.id });
      }
      if (!decision.named && own.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')) {
        throw new EgressFailure('denied', `${ask.host} is ${address}: own address of the runner's machine`, {
          rule: 'own_address',
        });
      }
    }
  }
}

/** One after the other, while there is time: half of what is left for each that is not the last. */
async function dialInOrder(addresses: readonly string[], port: number, what: string, bound: Bound): Promise<Dialled> {
  const tried = addresses.slice(0, attemptsMax);
  const failures: unknown[] = [];
  for (const [index, address] of tried.entries()) {
    const last = index === tried.length - 1;
    const share = new Bound(last ? bound.remainingMs : bound.remainingMs / 2, `${what} at ${address}`, bound.signal);
    try {
      return { socket: await connectAddress(address, port, `${what} at ${address}`, share.signal), address };
    } catch (error) {
      failures.push(error);
      if (bound.signal.aborted) break;
    } finally {
      share.clear();
    }
  }
  throw failures[0];
}

function handshaken(socket: TLSSocket, host: string): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const failed = (error?: unknown): void => {
      const code = codeOf(error) ?? 'the connection was closed';
      reject(new EgressFailure('refused', `TLS with ${host} failed (${code})`, { cause: error }));
    };
    const closed = (): void => failed(socket.errored ?? undefined);
    socket.on('error', failed);
    socket.once('close', closed);
    socket.once('secureConnect', () => {
      socket.off('close', closed);
      resolve(socket);
    });
  });
}

/** In lower case, without the dot at its end and the brackets of an IPv6 address; what is no name at all is refused. */
function plainHost(host: string): string {
  const plain = host
    .toLowerCase()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '');
  if (isIP(plain) !== 0 && !plain.includes('%')) return plain;
  const labels = plain.split('.');
  if (plain.length > 253 || !labels.every((label) => /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label))) {
    throw new EgressFailure('denied', `${JSON.stringify(host.slice(0, 80))} is not a host name`, { rule: 'bad_host' });
  }
  return plain;
}

/** Asked every time: a machine gets and loses addresses while runs are open. */
function ownAddresses(): BlockList {
  const own = new BlockList();
  for (const entries of Object.values(networkInterfaces())) {
    for (const { address, family } of entries ?? []) own.addAddress(address, family === 'IPv6' ? 'ipv6' : 'ipv4');
  }
  return own;
}

async function readBundle(file: string): Promise<string> {
  try {
    const text = await readFile(file, 'utf8');
    createSecureContext({ ca: text });
    if (text.includes('-----BEGIN CERTIFICATE-----')) return text;
    throw new Error('it holds no certificate in PEM');
  } catch (error) {
    throw new RunnerError(
      'invalid_config',
      `read the CA bundle ${file} of the operator's configuration: ${messageOf(error)}; name a file of PEM certificates`,
      { cause: error },
    );
  }
}

/** What Node adds to its own certificates is lost once others are named. */
function ownExtra(): readonly string[] {
  const file = process.env['NODE_EXTRA_CA_CERTS'];
  return file === undefined || file === '' || !existsSync(file) ? [] : [file];
}
