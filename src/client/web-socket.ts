import type { Duplex } from 'node:stream';
import { createWebSocketStream, WebSocket } from 'ws';
import { RunnerError } from '../errors.ts';
import { problemOf } from './problem.ts';
import { NotConnected } from './transport.ts';

export interface SocketOptions {
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal | undefined;
  readonly connectMs: number;
}

/** The bytes of a WebSocket as a stream, both ways. Rejects with what the service refuses it with. */
export async function openSocket(url: string, { headers, signal, connectMs }: SocketOptions): Promise<Duplex> {
  signal?.throwIfAborted();
  const socket = new WebSocket(url, { headers, handshakeTimeout: connectMs, perMessageDeflate: false });
  const stop = (): void => socket.terminate();
  signal?.addEventListener('abort', stop, { once: true });
  socket.once('close', () => signal?.removeEventListener('abort', stop));
  // Before it is open: what comes at once is not missed.
  const stream = createWebSocketStream(socket, { allowHalfOpen: false });
  stream.on('error', () => undefined); // a connection that breaks ends the stream; there is nobody else to tell
  await new Promise<void>((resolve, reject) => {
    socket.once('open', resolve);
    socket.once('unexpected-response', (_, response) => {
      const answer = {
        status: response.statusCode ?? 0,
        header: (name: string) => String(response.headers[name] ?? ''),
        body: response,
        discard: () => void response.destroy(),
      };
      problemOf(answer, url).then(reject, reject);
    });
    socket.once('error', (cause) => reject(new NotConnected(cause.message, { cause })));
    socket.once('close', () => reject(new RunnerError('service_unavailable', `the connection to ${url} was refused`)));
  });
  return stream;
}
