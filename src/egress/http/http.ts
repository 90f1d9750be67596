import { Carrier, carryFailure } from './carrier.ts';
import type { Conversation } from '../conversation.ts';
import { httpLimits, type HttpDeps } from './http-deps.ts';
import { serveHttp1 } from './http1.ts';
import { serveHttp2 } from './http2.ts';
import { misuseHint, refusalOf, rawAnswer } from './refusal.ts';
import { authorityOf, type Place } from './http-target.ts';
import { openTls } from './tls-door.ts';
import { UpstreamLanes } from './upstream-lanes.ts';
import { carryWebSocket, upgradeOf } from './websocket.ts';

/**
 * Carries one connection that is looked into to its end, with or without TLS. Never rejects; the connection is closed when it
 * resolves. Trailers are dropped both ways, and so is every informational answer but our own `100 Continue`.
 */
export async function serveHttp(
  conversation: Conversation,
  how: { readonly tls: boolean },
  deps: HttpDeps,
): Promise<void> {
  const limits = { ...httpLimits, ...deps.limits };
  const { inner, host, port } = conversation;
  inner.on('error', () => undefined);
  const socket = how.tls ? await openTls(conversation, deps, limits) : inner;
  if (socket === undefined) return;
  const place: Place = { scheme: how.tls ? 'https' : 'http', host, port };
  const lanes = new UpstreamLanes(deps.network, limits);
  const carrier = new Carrier(deps, limits, lanes);
  const destination = { ask: conversation, place };
  try {
    if ('alpnProtocol' in socket && socket.alpnProtocol === 'h2') {
      // Whoever says no more here hears no more: what is under way would wait for its window until its time is over.
      inner.once('end', () => socket.destroy());
      if (inner.readableEnded) socket.destroy();
      await serveHttp2(socket, (exchange) => carrier.carry(exchange, destination), limits);
    } else {
      await serveHttp1(
        socket,
        {
          carry: (exchange) => carrier.carry(exchange, destination),
          upgrade: (request, upgraded, head) =>
            carryWebSocket(carrier, destination, upgradeOf(request, upgraded, head)),
          connect: async (_request, tunnel) => {
            const failure = await deps.checkpoint
              .refuse(conversation, { reason: tunnelReason, hint: misuseHint })
              .catch(carryFailure);
            tunnel.end(rawAnswer(refusalOf(failure, `CONNECT through ${authorityOf(place)}`, 405)));
          },
          malformed: async (reason, status) => {
            const failure = await deps.checkpoint
              .refuse(conversation, { reason, hint: misuseHint })
              .catch(carryFailure);
            return rawAnswer(refusalOf(failure, `${place.scheme}://${authorityOf(place)}`, status));
          },
        },
        limits,
      );
    }
  } finally {
    lanes.close();
    inner.destroy();
  }
}

const tunnelReason = 'CONNECT is not carried here: the connection is to a server, not to a proxy';
