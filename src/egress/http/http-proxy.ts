import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { Carrier, carryFailure, type Destination } from './carrier.ts';
import type { Ask, Checkpoint } from '../checkpoint/checkpoint.ts';
import type { Carry } from '../conversation.ts';
import type { Exchange } from './exchange.ts';
import { httpLimits, type HttpDeps, type HttpLimits } from './http-deps.ts';
import { absoluteTarget, parseAuthority } from './http-target.ts';
import { serveHttp1, type Http1Door } from './http1.ts';
import { misuseHint, rawAnswer, refusalOf } from './refusal.ts';
import { UpstreamLanes } from './upstream-lanes.ts';
import { carryWebSocket, upgradeOf } from './websocket.ts';

export interface ProxyDeps {
  readonly checkpoint: Pick<Checkpoint, 'route' | 'connection' | 'request' | 'refuse'>;
  /** What carries a tunnel after its 200: the same as for a connection to a name. */
  readonly carry: Carry;
  readonly http: HttpDeps;
}

/** The tool call that a client says it is of, in the `Proxy-Authorization` of its request. */
type CallOf = (proxyAuthorization: string | undefined) => string | undefined;

/**
 * Carries one connection to the loopback proxy to its end: `CONNECT host:port`, and `http://` in absolute form. Never rejects; the
 * connection is closed when it resolves. A tunnel is what a connection to the name would have been, and is judged as that; one
 * that no rule allows is answered with 403 before it begins. Names and ports are read strictly, and addresses are the rules' affair.
 */
export async function serveProxy(inner: Duplex, callOf: CallOf, deps: ProxyDeps): Promise<void> {
  const limits = { ...httpLimits, ...deps.http.limits };
  const lanes = new UpstreamLanes(deps.http.network, limits);
  inner.on('error', () => undefined);
  try {
    await serveHttp1(inner, new ProxyDoor(callOf, deps, limits, lanes), limits);
  } finally {
    lanes.close();
    inner.destroy();
  }
}

class ProxyDoor implements Http1Door {
  readonly #callOf: CallOf;
  readonly #deps: ProxyDeps;
  readonly #carrier: Carrier;

  constructor(callOf: CallOf, deps: ProxyDeps, limits: HttpLimits, lanes: UpstreamLanes) {
    this.#callOf = callOf;
    this.#deps = deps;
    this.#carrier = new Carrier(deps.http, limits, lanes);
  }

  async carry(exchange: Exchange): Promise<void> {
    const destination = await this.#destination(exchange);
    if (destination !== undefined) await this.#carrier.carry(exchange, destination);
  }

  async upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const upgrade = upgradeOf(request, socket, head);
    const destination = await this.#destination(upgrade.exchange);
    if (destination !== undefined) await carryWebSocket(this.#carrier, destination, upgrade);
  }

  async connect(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const named = request.url ?? '';
    const asked = parseAuthority(named, undefined);
    const ask = this.#ask(asked ?? { host: named.slice(0, 255), port: 0 }, request.headers['proxy-authorization']);
    try {
      if (asked === undefined)
        throw await this.#deps.checkpoint.refuse(ask, { reason: badAuthority, hint: misuseHint });
      if (hasOtherHost(request, named))
        throw await this.#deps.checkpoint.refuse(ask, { reason: otherHost, hint: misuseHint });
      // Rejects, since no rule would carry it; what is carried is recorded by whoever carries it.
      if (this.#deps.checkpoint.route(ask).kind === 'refused') {
        const pass = await this.#deps.checkpoint.connection(ask);
        await pass.end({ kind: 'denied', reason: 'no handler carries it' });
        throw await this.#deps.checkpoint.refuse(ask, { reason: 'no handler carries it' });
      }
    } catch (error) {
      const status = asked === undefined ? 400 : undefined;
      return void socket.end(rawAnswer(refusalOf(carryFailure(error), `CONNECT ${named}`, status)));
    }
    socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
    if (head.length > 0) socket.unshift(head);
    await this.#deps.carry({ inner: socket, ...ask });
  }

  async malformed(reason: string, status: number): Promise<Buffer> {
    const ask = this.#ask({ host: 'proxy', port: 0 }, undefined);
    const failure = await this.#deps.checkpoint.refuse(ask, { reason, hint: misuseHint }).catch(carryFailure);
    return rawAnswer(refusalOf(failure, 'a request of the proxy', status));
  }

  /** Undefined: it was refused and answered. */
  async #destination(exchange: Exchange): Promise<Destination | undefined> {
    const absolute = absoluteTarget(exchange);
    if ('place' in absolute) {
      const { place, target } = absolute;
      return { ask: this.#ask(place, authorizationOf(exchange)), place, target };
    }
    const host = exchange.hosts[0] ?? 'proxy';
    const place = { scheme: 'http', host: host.slice(0, 255), port: 0 } as const;
    await this.#carrier.refuse(exchange, this.#ask(place, authorizationOf(exchange)), place, absolute);
    return undefined;
  }

  #ask({ host, port }: { readonly host: string; readonly port: number }, authorization: string | undefined): Ask {
    return { host, port, callId: this.#callOf(authorization), via: 'proxy' };
  }
}

function authorizationOf({ headers }: Exchange): string | undefined {
  return headers.find(([name]) => name.toLowerCase() === 'proxy-authorization')?.[1];
}

const badAuthority = 'CONNECT takes a host name and a port, such as example.org:443';
const otherHost = 'the Host header of the CONNECT names another host';

/** RFC 9110, 7.2: some clients send the name without its port. */
function hasOtherHost(request: IncomingMessage, authority: string): boolean {
  const [host, ...more] = request.rawHeaders.filter(
    (_, at) => request.rawHeaders[at - 1]?.toLowerCase() === 'host' && at % 2 === 1,
  );
  if (host === undefined) return false;
  const lower = authority.toLowerCase();
  return more.length > 0 || ![lower, lower.replace(/:\d+$/, '')].includes(host.toLowerCase());
}
