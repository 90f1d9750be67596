import { lookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction, type Socket } from 'node:net';
import { codeOf, connectNamed, sharedLookup, type LookupAll } from './connect.ts';
import { EgressFailure } from '../failure.ts';

export interface CorporateProxyOptions {
  /** `http://[user:password@]host[:port]`, or `https://`. */
  readonly proxy: string;
  /** Names, `.suffixes`, addresses and CIDRs that are dialled without it; `*` for all. */
  readonly noProxy: readonly string[];
  /** Where the proxy itself is; default: as the machine says. */
  readonly lookupAll?: LookupAll;
}

/** TLS to the proxy itself, where its URL says so. */
export type Secure = (socket: Socket, host: string, signal: AbortSignal) => Promise<Socket>;

const headMaxBytes = 16 * 1024;

/** The way out of a network that has only one: CONNECT, by name. What the name resolves to is the proxy's affair. */
export class CorporateProxy {
  readonly #url: URL;
  readonly #noProxy: readonly string[];
  readonly #lookup: LookupFunction;
  readonly #direct = new BlockList();

  /** Throws a TypeError when `proxy` is no URL. */
  constructor(options: CorporateProxyOptions) {
    this.#url = new URL(options.proxy);
    this.#lookup = sharedLookup(options.lookupAll ?? ((host, answer) => lookup(host, { all: true }, answer)));
    this.#noProxy = options.noProxy.map((entry) =>
      entry
        .trim()
        .toLowerCase()
        .replace(/^\*(?=\.)/, ''),
    );
    this.#direct.addSubnet('127.0.0.0', 8);
    this.#direct.addAddress('::1', 'ipv6');
    for (const entry of this.#noProxy) addRange(this.#direct, entry);
  }

  serves(host: string): boolean {
    const version = isIP(host);
    if (this.#noProxy.includes('*')) return false;
    if (version !== 0) return !this.#direct.check(host, version === 4 ? 'ipv4' : 'ipv6');
    return !this.#noProxy.some(
      (entry) => host === entry.replace(/^\./, '') || host.endsWith(`.${entry.replace(/^\./, '')}`),
    );
  }

  /** `host` must be a plain name or address: it is written into a request. */
  async tunnel(host: string, port: number, secure: Secure, signal: AbortSignal): Promise<Socket> {
    const what = `the proxy ${this.#url.host} of this machine`;
    const where = { host: bare(this.#url.hostname), port: this.#port(), lookup: this.#lookup };
    const raw = await connectNamed(where, what, signal);
    try {
      const socket = this.#url.protocol === 'https:' ? await secure(raw, bare(this.#url.hostname), signal) : raw;
      socket.write(this.#request(isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`));
      const status = await answered(socket, what, signal);
      if (status < 200 || status > 299) {
        const kind = status === 504 ? 'timed_out' : 'refused';
        throw new EgressFailure(kind, `${what} answered ${status} for ${host}:${port}`);
      }
      return socket;
    } catch (error) {
      raw.destroy();
      throw error;
    }
  }

  #port(): number {
    return this.#url.port === '' ? (this.#url.protocol === 'https:' ? 443 : 80) : Number(this.#url.port);
  }

  #request(target: string): string {
    const { username, password } = this.#url;
    const user = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64');
    const authorization = username === '' ? '' : `Proxy-Authorization: Basic ${user}\r\n`;
    return `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${authorization}\r\n`;
  }
}

/** The status of its answer. Bytes behind the head belong to the tunnel and are put back. */
function answered(socket: Socket, what: string, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    let head = Buffer.alloc(0);
    const done = (settle: () => void): void => {
      socket.off('readable', take).off('close', closed).off('end', closed);
      signal.removeEventListener('abort', aborted);
      settle();
    };
    const fail = (reason: string): void => done(() => reject(new EgressFailure('refused', `${what} ${reason}`)));
    const aborted = (): void => done(() => reject(signal.reason as Error));
    const closed = (): void => fail(`closed the connection (${codeOf(socket.errored) ?? 'no answer'})`);
    // Read, not flowing: whoever takes the tunnel over finds it as if nothing had been read yet.
    const take = (): void => {
      const chunk = socket.read() as Buffer | null;
      if (chunk === null) return;
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return head.length > headMaxBytes ? fail('sent no end of its answer') : undefined;
      const status = /^HTTP\/1\.[01] (\d{3})[ \r]/.exec(head.toString('latin1', 0, end + 1))?.[1];
      if (status === undefined) return fail('did not answer in HTTP/1.1');
      done(() => {
        if (head.length > end + 4) socket.unshift(head.subarray(end + 4));
        resolve(Number(status));
      });
    };
    if (signal.aborted) return aborted();
    signal.addEventListener('abort', aborted, { once: true });
    socket.on('readable', take).once('close', closed).once('end', closed);
  });
}

function addRange(list: BlockList, entry: string): void {
  const [address = '', bits] = bare(entry).split('/');
  const version = isIP(address);
  if (version === 0) return;
  const width = version === 4 ? 32 : 128;
  const prefix = bits === undefined ? width : Number(bits);
  if (Number.isInteger(prefix) && prefix >= 0 && prefix <= width) {
    list.addSubnet(address, prefix, version === 4 ? 'ipv4' : 'ipv6');
  }
}

function bare(host: string): string {
  return host.replace(/^\[|\]$/g, '');
}
