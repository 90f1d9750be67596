import type { Duplex } from 'node:stream';
import { createWebSocketStream, type WebSocket } from 'ws';
import { z } from 'zod';
import { CallId, RunId } from '../../contract/fields.ts';
import { OutputQuery } from '../../contract/output-view.ts';
import { relay } from '../../control/relay.ts';
import { socketRoute, type Route } from '../route.ts';
import { Terminal } from '../terminal.ts';

const PortParam = z.string().regex(/^[1-9]\d{0,4}$/);

export const socketRoutes: readonly Route[] = [
  socketRoute({
    method: 'GET',
    path: '/v1/runs/{run}/calls/{callId}/pty',
    operation: 'attachTerminal',
    tag: 'calls',
    summary:
      'A WebSocket to the terminal of a call with `tty`: binary frames are bytes both ways, text frames are JSON controls ' +
      '({"resize":{"columns","rows"}}, {"signal":"INT"}, {"close":true}). It is closed with 1000 when the command has ended.',
    scope: 'call',
    params: { run: RunId, callId: CallId },
    query: OutputQuery.pick({ offset: true }),
    reply: { status: 101, description: 'The socket.' },
    accept: async ({ service, principal, params: { run, callId }, query, watch, requestId }) => {
      const terminal = await Terminal.attach(service, principal, { run, callId, offset: query.offset ?? 0 });
      return (socket) =>
        terminal.carry(socket, (error) => watch.log.warn({ requestId, run, err: error }, 'a terminal broke'));
    },
  }),
  socketRoute({
    method: 'GET',
    path: '/v1/runs/{run}/ports/{port}',
    operation: 'forwardPort',
    tag: 'runs',
    summary: 'A WebSocket to a port on the loopback inside: binary frames are bytes both ways, from the first one on.',
    scope: 'call',
    params: { run: RunId, port: PortParam },
    reply: { status: 101, description: 'The socket.' },
    accept: async ({ service, principal, params: { run, port }, gone }) => {
      const inner = await service.forward(principal, run, Number(port));
      inner.on('error', () => inner.destroy());
      gone().addEventListener('abort', () => inner.destroy());
      if (gone().aborted) inner.destroy();
      return (socket) => void forward(socket, inner);
    },
  }),
];

async function forward(socket: WebSocket, inner: Duplex): Promise<void> {
  const outer = createWebSocketStream(socket);
  outer.on('error', () => outer.destroy());
  socket.on('message', (_, isBinary) => {
    if (!isBinary) socket.close(1003, 'binary frames alone are bytes');
  });
  await relay(outer, inner);
  outer.destroy();
  inner.destroy();
}
