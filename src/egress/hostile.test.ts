import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { serveProxy } from './http-proxy.ts';
import { serveHttp } from './http.ts';
import { closeServer, listen, listenerFor, raw, worldOf, type Listener, type World } from './http.fixture.ts';
import { ruleWith } from './judge.fixture.ts';

/** What would end the runner, were it thrown where nobody listens: each of these once did, or might have. */
let world: World;
let upstream: http.Server;
let proxy: Listener;
let inside: Listener;

beforeAll(async () => {
  // It answers to nothing, and reads no body.
  upstream = http.createServer(() => undefined);
  const rule = ruleWith({ methods: ['GET', 'POST'], maxSentBytes: 1 << 30, websocket: true });
  world = await worldOf([rule], { 443: await listen(upstream) });
  const network = { ...world.deps.network, secure: (socket: unknown) => Promise.resolve(socket as TLSSocket) };
  const deps = { ...world.deps, network };
  const conversation = { host: 'allowed.test', port: 443, callId: undefined, via: 'name' } as const;
  inside = await listenerFor((inner) => serveHttp({ ...conversation, inner }, { tls: true }, deps));
  proxy = await listenerFor((inner) =>
    serveProxy(inner, () => undefined, { checkpoint: world.checkpoint, carry: () => Promise.resolve(), http: deps }),
  );
});

afterAll(async () => {
  await Promise.all([proxy.close(), inside.close(), closeServer(upstream)]);
});

test.each(['xn--a', 'a.xn--zzzzzzzz', 'xn--.test'])('a host that no URL can hold is refused: %s', async (host) => {
  const answer = await raw(proxy.port, `GET http://${host}/ HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  expect(answer).toMatch(/^HTTP\/1\.1 400 /);
});

test('a stream that is reset while nobody reads its body ends, and the next is served', async () => {
  const socket = connectTls({
    port: inside.port,
    servername: 'allowed.test',
    ca: world.authority.pem,
    ALPNProtocols: ['h2'],
  });
  await once(socket, 'secureConnect');
  const session = http2.connect('https://allowed.test', { createConnection: () => socket });
  session.on('error', () => undefined);
  for (let at = 0; at < 5; at++) {
    const stream = session.request({ ':method': 'POST', ':path': '/', ':authority': 'allowed.test' });
    stream.on('error', () => undefined);
    const arrived = once(upstream, 'request');
    stream.write(Buffer.alloc(200_000));
    await arrived;
    await new Promise((resolve) => setTimeout(resolve, 50));
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const denied = session.request({ ':method': 'DELETE', ':path': '/', ':authority': 'allowed.test' });
  const [headers] = (await once(denied, 'response')) as [http2.IncomingHttpHeaders];
  expect(headers[':status']).toBe(403);
  session.destroy();
});
