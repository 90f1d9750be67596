import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import { connect } from 'node:net';
import { PassThrough, type Duplex } from 'node:stream';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { answerRefusal, type Exchange } from './exchange.ts';
import { serveProxy } from './http-proxy.ts';
import { serveHttp } from './http.ts';
import { closeServer, listen, listenerFor, raw, worldOf, type Listener, type World } from './http.fixture.ts';
import { ruleWith } from '../checkpoint/judge.fixture.ts';

/** What would end the runner, were it thrown where nobody listens: each of these once did, or might have. */
const answers: Record<string, string> = {};
let world: World;
let upstream: http.Server;
let proxy: Listener;
const inners: Duplex[] = [];
let inside: Listener;
/** Without an announced length, and more than all buffers on the way hold. */
const longBytes = 16_000_000;
answers['/long'] = `200 OK\r\n\r\n${'x'.repeat(longBytes)}`;
answers['/extension'] = `200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;${'x'.repeat(1_000_000)}`;
answers['/headers'] = `200 OK\r\n${'a: b\r\n'.repeat(1_000)}\r\n`;
answers['/hints'] = `${'103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 '.repeat(100)}200 OK\r\n\r\n`;
answers['/many-hints'] = `${'103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 '.repeat(1_000)}200 OK\r\n\r\n`;

beforeAll(async () => {
  // It reads no body, and answers nothing but this.
  upstream = http.createServer((request, response) => {
    const answer = answers[request.url ?? ''];
    if (answer !== undefined && request.url === '/extension') response.socket?.write(`HTTP/1.1 ${answer}`);
    else if (answer !== undefined) response.socket?.end(`HTTP/1.1 ${answer}`);
  });
  const rule = ruleWith({ methods: ['GET', 'POST'], maxSentBytes: 1 << 30, websocket: true });
  const little = ruleWith({ id: 'little', ports: [80], tls: 'none', host: ['little.test'], maxReceivedBytes: 10_000 });
  const port = await listen(upstream);
  world = await worldOf([rule, little], { 443: port, 80: port });
  const network = {
    dial: (wanted: Parameters<typeof world.deps.network.dial>[0]) =>
      world.deps.network.dial({ ...wanted, host: 'allowed.test' }),
    secure: (socket: unknown) => Promise.resolve(socket as TLSSocket),
  };
  const deps = { ...world.deps, network };
  const conversation = { host: 'allowed.test', port: 443, callId: undefined, via: 'name' } as const;
  inside = await listenerFor((inner) => serveHttp({ ...conversation, inner }, { tls: true }, deps));
  proxy = await listenerFor((inner) => {
    inners.push(inner);
    return serveProxy(inner, () => undefined, {
      checkpoint: world.checkpoint,
      carry: () => Promise.resolve(),
      http: deps,
    });
  });
});

afterAll(async () => {
  await Promise.all([proxy.close(), inside.close(), closeServer(upstream)]);
});

test.each(['xn--a', 'a.xn--zzzzzzzz', 'xn--.test'])('a host that no URL can hold is refused: %s', async (host) => {
  const answer = await raw(proxy.port, `GET http://${host}/ HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  expect(answer).toMatch(/^HTTP\/1\.1 400 /);
});

test('a stream that is reset while nobody reads its body ends, and the next is served', async () => {
  const socket = await connected('h2');
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

test.each([2, 7, 8, 11])('a stream that is reset with code %i in the packet that opens it is nobody', async (code) => {
  const socket = await connected('h2');
  const get = Buffer.concat([Buffer.from([0x82, 0x87, 0x84, 0x01, 12]), Buffer.from('allowed.test')]);
  const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  const opened = [frame(0x4, 0, 0, Buffer.alloc(0)), frame(0x1, 0x5, 1, get)];
  socket.write(Buffer.concat([preface, ...opened, frame(0x3, 0, 1, Buffer.from([0, 0, 0, code]))]));
  await once(socket, 'data');
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(socket.destroyed).toBe(false);
  socket.destroy();
});

test.each(['goes away', 'reads in the end'])('a client that does not read a long answer, and %s', async (what) => {
  const socket = await connected('http/1.1');
  socket.pause();
  socket.write('GET /long HTTP/1.1\r\nHost: allowed.test\r\n\r\n');
  const [arrived] = (await once(upstream, 'request')) as [http.IncomingMessage];
  await new Promise((resolve) => setTimeout(resolve, 200));
  if (what === 'goes away') {
    socket.destroy();
    await new Promise((resolve) => arrived.socket.once('close', resolve));
  } else {
    let bytes = 0;
    await new Promise<void>((resolve) => {
      socket.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > longBytes) resolve();
      });
      socket.resume();
    });
    socket.destroy();
  }
});

test.each([
  ['headers', 502, 'more than 256 headers'],
  ['hints', 200, ''],
  ['many-hints', 403, 'it gets more than 10000 bytes'],
])('an answer may not cost more than its bound: %s', async (path, status, reason) => {
  const answer = await raw(
    proxy.port,
    `GET http://little.test/${path} HTTP/1.1\r\nHost: little.test\r\nConnection: close\r\n\r\n`,
  );
  expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  expect(answer).toContain(reason);
});

test.each([
  ['X-HTTP-Method-Override: DELETE', 400],
  ['x-original-url: /admin', 400],
  ['X-HTTP-Method-Override: GET', 403],
])('a header that makes another request of it for some servers is refused: %s', async (header, status) => {
  const before = world.dials.length;
  const asked = `GET http://denied.test/ HTTP/1.1\r\nHost: denied.test\r\n${header}\r\nConnection: close\r\n\r\n`;
  expect(await raw(proxy.port, asked)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  expect(world.dials.length).toBe(before);
});

test.each([
  'GET http://little.test/ HTTP/1.1\r\nHost: little.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
  'CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test:443\r\n\r\n',
])('what comes behind something that is no request is nothing', async (behind) => {
  const odd = 'GET / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n';
  const answer = await raw(proxy.port, `${odd}${behind}`);
  expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1);
});

test('what an answer hides from everybody is bounded too', async () => {
  const ends = world.record.ends.length;
  const answer = await raw(proxy.port, 'GET http://little.test/extension HTTP/1.1\r\nHost: little.test\r\n\r\n');
  expect(answer).not.toMatch(/\r\n0\r\n/);
  expect(world.record.ends.slice(ends)).toMatchObject([
    { result: 'cut', reason: 'the server sends what is no part of an answer' },
  ]);
});

test('a refusal that is not taken is cut, and waited for no longer', async () => {
  let cuts = 0;
  const exchange: Exchange = {
    method: 'GET',
    target: '/',
    hosts: [],
    headers: [],
    body: undefined,
    expects: 'nothing',
    responded: false,
    over: new Promise(() => undefined),
    onGone: () => undefined,
    proceed: () => undefined,
    respond: () => new PassThrough(),
    cut: () => void cuts++,
  };
  await answerRefusal(exchange, { status: 403, headers: [], body: Buffer.from('no') }, 20);
  expect(cuts).toBe(1);
});

test('requests that offer another protocol leave nothing behind', async () => {
  const socket = connect(proxy.port, '127.0.0.1');
  const inner = (): Duplex | undefined => inners.at(-1);
  const counts: (number | undefined)[] = [];
  for (let at = 0; at < 5; at++) {
    socket.write('GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n');
    expect(String(await once(socket, 'data'))).toMatch(/^HTTP\/1\.1 400 /);
    counts.push(
      inner()
        ?.eventNames()
        .reduce((sum, name) => sum + (inner()?.listenerCount(name) ?? 0), 0),
    );
  }
  expect(new Set(counts).size).toBe(1);
  socket.destroy();
});

async function connected(protocol: string): Promise<TLSSocket> {
  const name = { servername: 'allowed.test', ca: world.authority.pem };
  const socket = connectTls({ port: inside.port, ...name, ALPNProtocols: [protocol] });
  socket.on('error', () => undefined);
  await once(socket, 'secureConnect');
  return socket;
}

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}
