import { createHash } from 'node:crypto';
import { ServerResponse, type IncomingMessage } from 'node:http';
import { Duplex } from 'node:stream';
import type { PassEnd } from '../checkpoint/checkpoint.ts';
import { respondWith, type Carrier, type Destination, type Sending } from './carrier.ts';
import { EgressFailure } from '../failure.ts';
import { headBytes, responseHeaders, valuesOf } from './http-headers.ts';
import type { HeaderPair } from './http-deps.ts';
import { Http1Exchange } from './http1-exchange.ts';
import { splice } from '../raw/splice.ts';

/** An upgrade as an exchange: answered like every other, or taken over with `detach`, after which nothing frames what is written. */
export interface Upgrade {
  readonly exchange: Http1Exchange;
  readonly detach: () => Duplex;
}

export function upgradeOf(request: IncomingMessage, socket: Duplex, head: Buffer): Upgrade {
  const response = new ServerResponse(request);
  // Node's parser has let go of the socket; what is written to it is still framed by Node.
  const assigned = socket as Parameters<typeof response.assignSocket>[0];
  response.shouldKeepAlive = false;
  response.assignSocket(assigned);
  const detach = (): Duplex => {
    response.detachSocket(assigned);
    if (head.length > 0) socket.unshift(head);
    return socket;
  };
  return { exchange: new Http1Exchange(request, response, 0), detach };
}

/**
 * Carries an upgrade to WebSocket, where a rule says that it may be. Bytes go either way only after the upstream's 101 was
 * checked against the client's key; every other answer is passed on as what it is. Never rejects.
 */
export function carryWebSocket(
  carrier: Carrier,
  destination: Destination,
  { exchange, detach }: Upgrade,
): Promise<void> {
  const wrong = misuseOf(exchange);
  if (wrong !== undefined) {
    return carrier.refuse(exchange, destination.ask, destination.place, { status: 400, reason: wrong });
  }
  return carrier.judged(exchange, destination, true, (sending) => upgrade(carrier, exchange, sending, detach));
}

async function upgrade(
  carrier: Carrier,
  exchange: Http1Exchange,
  { pass, place, target, prepared, signal }: Sending,
  detach: () => Duplex,
): Promise<PassEnd> {
  const lane = await carrier.lanes.take(place, pass, signal, true);
  const { path, url } = target;
  const headers: readonly HeaderPair[] = [['host', url.host], ...prepared.headers];
  let switched: { readonly headers: readonly HeaderPair[]; readonly upstream: Duplex } | undefined;
  try {
    pass.sent(headBytes(`GET ${path} HTTP/1.1`, headers));
    const status = await lane.send({
      method: 'GET',
      path,
      headers,
      body: null,
      upgrade: true,
      signal,
      received: (bytes) => pass.received(bytes),
      respond: (answered, fields) => respondWith(exchange, prepared, answered, fields),
      upgraded: (fields, upstream) => {
        pass.received(headBytes('HTTP/1.1 101', fields));
        switched = { headers: fields, upstream };
      },
    });
    if (switched === undefined) {
      await exchange.over;
      return { kind: 'done', address: lane.address, status };
    }
    const masked = prepared.carried?.response(101, responseHeaders(switched.headers));
    const answer = acceptedHeaders(exchange, masked?.headers ?? responseHeaders(switched.headers));
    if (signal.aborted) throw signal.reason;
    const client = detach();
    client.write(
      `HTTP/1.1 101 Switching Protocols\r\n${answer.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`,
    );
    const outer = masked === undefined ? switched.upstream : maskedBy(masked.body, switched.upstream);
    const stop = (): void => [client, outer].forEach((side) => side.destroy());
    signal.addEventListener('abort', stop, { once: true });
    const end = await splice(client, outer, pass);
    signal.removeEventListener('abort', stop);
    return { ...end, address: lane.address, status: 101 };
  } finally {
    switched?.upstream.destroy();
    carrier.lanes.drop(lane);
  }
}

/** The upstream, with what it says searched for the secret that was carried. */
function maskedBy(mask: Duplex, upstream: Duplex): Duplex {
  upstream.pipe(mask);
  upstream.once('close', () => mask.end());
  const both = Duplex.from({ readable: mask, writable: upstream });
  both.once('close', () => upstream.destroy());
  return both;
}

function misuseOf(exchange: Http1Exchange): string | undefined {
  const one = (name: string): string | undefined => {
    const values = valuesOf(exchange.headers, name);
    return values.length === 1 ? values[0] : undefined;
  };
  if (exchange.method !== 'GET' || exchange.body !== undefined) return 'a WebSocket begins with a GET without a body';
  if (one('sec-websocket-version') !== '13') return 'WebSocket is spoken here in version 13';
  if (!/^[A-Za-z0-9+/]{22}==$/.test(one('sec-websocket-key') ?? '')) return 'the key of the WebSocket is not one';
  return undefined;
}

/** RFC 6455, 4.1: what the client would check, checked before a byte is piped. */
function acceptedHeaders(exchange: Http1Exchange, answered: readonly HeaderPair[]): readonly HeaderPair[] {
  const key = valuesOf(exchange.headers, 'sec-websocket-key')[0] ?? '';
  const expected = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  const accept = valuesOf(answered, 'sec-websocket-accept');
  if (accept.length !== 1 || accept[0]?.trim() !== expected) {
    throw new EgressFailure('broken', 'the server changed protocols without having read the key of the WebSocket');
  }
  return [...answered, ['upgrade', 'websocket'], ['connection', 'Upgrade']];
}
