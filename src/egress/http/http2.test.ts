import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { echo } from './http-client.fixture.ts';
import { serveHttp } from './http.ts';
import { closeServer, listen, listenerFor, worldOf, type Listener, type World } from './http.fixture.ts';
import { ruleWith } from '../checkpoint/judge.fixture.ts';

const rule = ruleWith({ methods: ['GET', 'HEAD', 'POST'], maxSentBytes: 2_000_000 });

let world: World;
let upstream: http.Server;
let inside: Listener;
const arrived: http.IncomingMessage[] = [];
const behaviour: { answer: http.RequestListener } = { answer: echo };

beforeAll(async () => {
  upstream = http.createServer((request, response) => {
    arrived.push(request);
    behaviour.answer(request, response);
  });
  const port = await listen(upstream);
  world = await worldOf([rule], { 443: port });
  // The upstream's TLS is another test's affair.
  const network = { ...world.deps.network, secure: (socket: unknown) => Promise.resolve(socket as TLSSocket) };
  const deps = { ...world.deps, network, limits: { idleMs: 1500, resetsMax: 50, streamsMax: 20 } };
  const conversation = { host: 'allowed.test', port: 443, callId: undefined, via: 'name' } as const;
  inside = await listenerFor((inner) => serveHttp({ ...conversation, inner }, { tls: true }, deps));
});

afterAll(async () => {
  await Promise.all([inside.close(), closeServer(upstream)]);
});

beforeEach(() => {
  arrived.length = 0;
  behaviour.answer = echo;
});

test('streams of one connection are judged one by one', async () => {
  const session = connected();
  const asked = ['/1', '/2', '/3', '/4', '/5'].map((path, at) =>
    ask(session, { ':path': path, ':method': at === 2 ? 'DELETE' : 'GET' }),
  );
  const answers = await Promise.all(asked);
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 403, 200, 200]);
  expect(answers[0]?.body).toBe('GET /1 ');
  expect(answers[2]?.headers['glovebox-egress']).toBe('denied');
  expect(JSON.parse(answers[2]?.body ?? '')).toMatchObject({ error: 'denied', asked: 'DELETE https://allowed.test/3' });
  expect(arrived.map(({ url }) => url ?? '').sort((a, b) => a.localeCompare(b))).toEqual(['/1', '/2', '/4', '/5']);
  await closed(session);
});

test('a body goes up and down, in as many pieces as it takes', async () => {
  const session = connected();
  const body = Buffer.alloc(1_000_000, '0123456789');
  behaviour.answer = (request, response) => void request.pipe(response);
  const answer = await ask(session, { ':method': 'POST', ':path': '/' }, body);
  expect(answer.body === body.toString()).toBe(true);
  await closed(session);
});

test.each<[string, http2.OutgoingHttpHeaders, number]>([
  ['another :authority', { ':authority': 'other.test' }, 421],
  ['another host beside it', { host: 'other.test' }, 400],
  ['another port', { ':authority': 'allowed.test:444' }, 421],
  ['a path with dot segments', { ':path': '/a/../b' }, 400],
  ['a method in small letters', { ':method': 'get' }, 400],
  ['TRACE', { ':method': 'TRACE' }, 405],
])('%s is refused', async (_what, headers, status) => {
  const session = connected();
  const answer = await ask(session, { ':path': '/', ...headers });
  expect(answer.status).toBe(status);
  expect(arrived).toEqual([]);
  await closed(session);
});

test('an answer has what HTTP/2 may have, and several cookies either way', async () => {
  behaviour.answer = (request, response) => {
    response.writeHead(200, [
      'Set-Cookie',
      'a=1',
      'Set-Cookie',
      'b=2',
      'ETag',
      'x',
      'ETag',
      'y',
      'Connection',
      'close',
      'Keep-Alive',
      'timeout=1',
    ]);
    response.end(request.headers.cookie);
  };
  const session = connected();
  const answer = await ask(session, { ':path': '/', cookie: ['c=1', 'd=2'] });
  expect(answer.headers).toMatchObject({ 'set-cookie': ['a=1', 'b=2'], etag: 'x' });
  expect(answer.body).toBe('c=1; d=2');
  await closed(session);
});

test('HEAD has no body, and an early end of the upstream is an error of the stream', async () => {
  const session = connected();
  expect(await ask(session, { ':path': '/', ':method': 'HEAD' })).toMatchObject({ status: 200, body: '' });
  behaviour.answer = (_request, response) => {
    response.writeHead(200, { 'content-length': '100' }).write('half');
    setImmediate(() => response.destroy());
  };
  await expect(ask(session, { ':path': '/' })).rejects.toThrow(/INTERNAL_ERROR|closed/);
  await closed(session);
});

test('what a client gives up is given up at the upstream', async () => {
  const stopped = new Promise<void>((resolve) => {
    behaviour.answer = (_request, response) => {
      response.write('first');
      response.once('close', resolve);
    };
  });
  const session = connected();
  const stream = session.request({ ':path': '/', ':authority': 'allowed.test' });
  await once(stream, 'data');
  stream.close(http2.constants.NGHTTP2_CANCEL);
  await stopped;
  await closed(session);
});

test('a client that opens and resets streams without end loses the connection', async () => {
  behaviour.answer = () => undefined;
  const { socket, ended } = await opened();
  socket.resume();
  const get = Buffer.concat([Buffer.from([0x82, 0x87, 0x84, 0x01, 12]), Buffer.from('allowed.test')]);
  const cancel = Buffer.from([0, 0, 0, 8]);
  const pair = (at: number): Buffer =>
    Buffer.concat([frame(0x1, 0x5, 2 * at + 1, get), frame(0x3, 0, 2 * at + 1, cancel)]);
  for (let at = 0; at < 900 && !socket.destroyed; at++) {
    socket.write(pair(at));
    if (at % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await ended;
  // Below what the library under it takes for an attack.
  expect(arrived.length).toBeLessThan(200);
  behaviour.answer = echo;
  await isServed();
});

test.each([
  ['settings', frame(0x4, 0, 0, Buffer.alloc(0))],
  ['pings', frame(0x6, 0, 0, Buffer.alloc(8))],
  ['empty data', frame(0x0, 0, 1, Buffer.alloc(0))],
  [
    'continuations',
    Buffer.concat([
      frame(0x1, 0, 1, Buffer.from([0x82])),
      ...Array.from({ length: 50 }, () => frame(0x9, 0, 1, Buffer.alloc(1000, 0x82))),
    ]),
  ],
])('a flood of %s does not go on for ever, and the next client is served', async (_what, bytes) => {
  const { socket, ended } = await opened();
  // Nothing is read of what comes back: answers pile up on the other side.
  const flood = Buffer.concat(Array.from({ length: 2000 }, () => bytes));
  for (let at = 0; at < 20 && !socket.destroyed; at++) {
    if (!socket.write(flood)) await Promise.race([new Promise((resolve) => socket.once('drain', resolve)), ended]);
  }
  socket.resume();
  socket.end();
  await ended;
  await isServed();
});

test('more headers than there may be, or longer ones, are refused', async () => {
  const session = connected();
  const many = Object.fromEntries(Array.from({ length: 300 }, (_, at) => [`x-${at}`, '1']));
  await expect(ask(session, { ':path': '/', ...many })).rejects.toThrow();
  const other = connected();
  await expect(ask(other, { ':path': '/', 'x-long': 'a'.repeat(80_000) })).rejects.toThrow();
  expect(arrived).toEqual([]);
  session.destroy();
  other.destroy();
});

test('a connection without a stream is closed', async () => {
  const session = connected();
  await once(session, 'close');
});

interface Answered {
  readonly status: number | undefined;
  readonly headers: http2.IncomingHttpHeaders;
  readonly body: string;
}

function connected(): http2.ClientHttp2Session {
  const session = http2.connect('https://allowed.test', { createConnection: rawSession });
  session.on('error', () => undefined);
  return session;
}

/** With the preface said, and nothing read. */
async function opened(): Promise<{ readonly socket: TLSSocket; readonly ended: Promise<void> }> {
  const socket = rawSession();
  await once(socket, 'secureConnect');
  socket.on('error', () => undefined);
  const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(0x4, 0, 0, Buffer.alloc(0))]));
  return { socket, ended };
}

async function isServed(): Promise<void> {
  const session = connected();
  expect((await ask(session, { ':path': '/' })).status).toBe(200);
  await closed(session);
}

function rawSession(): TLSSocket {
  return connectTls({
    port: inside.port,
    host: '127.0.0.1',
    servername: 'allowed.test',
    ca: world.authority.pem,
    ALPNProtocols: ['h2'],
  });
}

function ask(session: http2.ClientHttp2Session, headers: http2.OutgoingHttpHeaders, body?: Buffer): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':authority': 'allowed.test', ...headers }, { endStream: body === undefined });
    const chunks: Buffer[] = [];
    let answered: http2.IncomingHttpHeaders = {};
    stream.once('response', (found) => (answered = found));
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.once('error', reject);
    stream.once('close', () => {
      const status = Number(answered[':status']);
      if (Number.isNaN(status)) return reject(new Error('closed without an answer'));
      resolve({ status, headers: answered, body: Buffer.concat(chunks).toString() });
    });
    if (body !== undefined) stream.end(body);
  });
}

async function closed(session: http2.ClientHttp2Session): Promise<void> {
  const ended = once(session, 'close');
  session.close();
  await ended;
}

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}
