import { readFileSync } from 'node:fs';
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttps } from 'node:https';
import type { AddressInfo, Server } from 'node:net';

/** Servers of the egress rows in a process of their own: key and certificate are its arguments, its ports the first message. */
const [, , key = '', certificate = ''] = process.argv;
const piece = Buffer.alloc(1 << 18, 'x');
const servers = [createHttp(answer), createHttps({ key: readFileSync(key), cert: readFileSync(certificate) }, answer)];
await Promise.all(servers.map((server) => new Promise<void>((done) => server.listen(0, '127.0.0.1', done))));
process.on('disconnect', () => process.exit());
process.send?.(servers.map((server: Server) => (server.address() as AddressInfo).port));

/** `/bytes/N`: that many; anything else: a word. What is sent is read and dropped. */
function answer(request: IncomingMessage, response: ServerResponse): void {
  request.resume();
  const bytes = Number(/^\/bytes\/(\d+)$/.exec(request.url ?? '')?.[1] ?? 0);
  if (bytes === 0) return void request.on('end', () => response.end('ok\n'));
  response.setHeader('content-length', bytes);
  let left = bytes;
  const more = (): void => {
    while (left > 0) {
      const part = piece.subarray(0, Math.min(left, piece.length));
      left -= part.length;
      if (!response.write(part)) return void response.once('drain', more);
    }
    response.end();
  };
  more();
}
