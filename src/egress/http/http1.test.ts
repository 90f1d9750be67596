import { once } from 'node:events';
import * as http from 'node:http';
import { connect, createServer as createTcp, type Server } from 'node:net';
import { array, assert, asyncProperty, constantFrom, oneof, string } from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { serveHttp } from './http.ts';
import { closeServer, listen, listenerFor, raw, worldOf, type Listener, type World } from './http.fixture.ts';
import { ruleWith } from '../checkpoint/judge.fixture.ts';

const rule = ruleWith({ methods: ['GET', 'HEAD', 'POST', 'TRACE', 'CONNECT', 'OPTIONS'], ports: [80] });
const host = 'Host: allowed.test\r\n';

let world: World;
let upstream: Server;
let inside: Listener;
/** Every byte that reached the upstream. */
let arrived = '';

/** An upstream that keeps what comes and answers each head with `200`: what it takes for a request is one. */
beforeAll(async () => {
  upstream = createTcp((socket) => {
    let rest = '';
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      arrived += chunk.toString('latin1');
      rest += chunk.toString('latin1');
      for (let end = rest.indexOf('\r\n\r\n'); end >= 0; end = rest.indexOf('\r\n\r\n')) {
        rest = rest.slice(end + 4);
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      }
    });
  });
  world = await worldOf([rule], { 80: await listen(upstream) });
  const conversation = { host: 'allowed.test', port: 80, callId: undefined, via: 'name' } as const;
  const deps = { ...world.deps, limits: { headMs: 300, idleMs: 2000, waitingMax: 8, discardBytes: 100_000 } };
  inside = await listenerFor((inner) => serveHttp({ ...conversation, inner }, { tls: false }, deps));
});

afterAll(async () => {
  await inside.close();
  await closeServer(upstream);
});

beforeEach(() => {
  arrived = '';
  world.record.decisions.length = 0;
});

describe('bytes that two readers could take for two things are no request', () => {
  test.each<[string, string, number]>([
    [
      'a length beside chunks',
      `POST / HTTP/1.1\r\n${host}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX`,
      400,
    ],
    [
      'chunks beside a length',
      `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX`,
      400,
    ],
    ['two lengths', `POST / HTTP/1.1\r\n${host}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`, 400],
    ['the same length twice', `POST / HTTP/1.1\r\n${host}Content-Length: 1\r\nContent-Length: 1\r\n\r\na`, 400],
    ['a list of lengths', `POST / HTTP/1.1\r\n${host}Content-Length: 1, 1\r\n\r\na`, 400],
    ['a signed length', `POST / HTTP/1.1\r\n${host}Content-Length: +1\r\n\r\na`, 400],
    ['a hexadecimal length', `POST / HTTP/1.1\r\n${host}Content-Length: 0x1\r\n\r\na`, 400],
    [
      'a coding that is not the last',
      `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`,
      400,
    ],
    ['a coding that nobody knows', `POST / HTTP/1.1\r\n${host}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`, 400],
    [
      'chunked twice',
      `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      400,
    ],
    ['a space before the colon', `GET / HTTP/1.1\r\nHost : allowed.test\r\n\r\n`, 400],
    ['a folded header', `GET / HTTP/1.1\r\n${host}X-A: 1\r\n folded\r\n\r\n`, 400],
    ['a folded first header', `GET / HTTP/1.1\r\n Host: allowed.test\r\n\r\n`, 400],
    ['bare line feeds', `GET / HTTP/1.1\nHost: allowed.test\n\n`, 400],
    ['a bare line feed in the head', `GET / HTTP/1.1\r\nX: a\nHost: allowed.test\r\n\r\n`, 400],
    ['a bare carriage return', `GET / HTTP/1.1\r\n${host}X: a\rHost: other.test\r\n\r\n`, 400],
    ['a zero byte in a header', `GET / HTTP/1.1\r\n${host}X: a\0b\r\n\r\n`, 400],
    ['a zero byte in a name', `GET / HTTP/1.1\r\n${host}X\0: a\r\n\r\n`, 400],
    ['no name', `GET / HTTP/1.1\r\n${host}: a\r\n\r\n`, 400],
    ['two Hosts', `GET / HTTP/1.1\r\n${host}Host: other.test\r\n\r\n`, 400],
    ['the same Host twice', `GET / HTTP/1.1\r\n${host}${host}\r\n`, 400],
    ['no Host', `GET / HTTP/1.1\r\n\r\n`, 400],
    ['no Host in HTTP/1.0', `GET / HTTP/1.0\r\n\r\n`, 400],
    ['an empty Host', `GET / HTTP/1.1\r\nHost:\r\n\r\n`, 421],
    ['a list of Hosts', `GET / HTTP/1.1\r\nHost: allowed.test, other.test\r\n\r\n`, 421],
    ['a dot after the Host', `GET / HTTP/1.1\r\nHost: allowed.test.\r\n\r\n`, 421],
    ['a URL', `GET http://allowed.test/ HTTP/1.1\r\n${host}\r\n`, 400],
    ['a URL of another host', `GET http://other.test/ HTTP/1.1\r\n${host}\r\n`, 400],
    ['no target', `GET  HTTP/1.1\r\n${host}\r\n`, 400],
    ['a star', `OPTIONS * HTTP/1.1\r\n${host}\r\n`, 400],
    ['an authority', `GET allowed.test:80 HTTP/1.1\r\n${host}\r\n`, 400],
    ['a tunnel', `CONNECT allowed.test:80 HTTP/1.1\r\n${host}\r\n`, 405],
    ['TRACE', `TRACE / HTTP/1.1\r\n${host}\r\n`, 405],
    ['a method in small letters', `get / HTTP/1.1\r\n${host}\r\n`, 400],
    ['a method with something before it', `XGET / HTTP/1.1\r\n${host}\r\n`, 400],
    ['a space in the target', `GET /a b HTTP/1.1\r\n${host}\r\n`, 400],
    ['a tab in the target', `GET /a\tb HTTP/1.1\r\n${host}\r\n`, 400],
    ['dot segments', `GET /a/../b HTTP/1.1\r\n${host}\r\n`, 400],
    ['encoded dot segments', `GET /a/%2e%2E/b HTTP/1.1\r\n${host}\r\n`, 400],
    ['a backslash', `GET /a\\b HTTP/1.1\r\n${host}\r\n`, 400],
    ['two slashes', `GET //other.test/ HTTP/1.1\r\n${host}\r\n`, 400],
    ['a fragment', `GET /a#b HTTP/1.1\r\n${host}\r\n`, 400],
    ['an encoded zero', `GET /a%00 HTTP/1.1\r\n${host}\r\n`, 400],
    ['HTTP/0.9', `GET /\r\n\r\n`, 505],
    ['HTTP/2 without asking', `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`, 400],
    ['HTTP/1.2', `GET / HTTP/1.2\r\n${host}\r\n`, 400],
    ['HTTP/3.0', `GET / HTTP/3.0\r\n${host}\r\n`, 400],
    ['something else', `SSH-2.0-OpenSSH_9.2\r\n\r\n`, 400],
    ['TLS where there is none', `\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03`, 400],
    [
      'an expectation that nobody knows',
      `POST / HTTP/1.1\r\n${host}Expect: 200-maybe\r\nContent-Length: 1\r\n\r\na`,
      417,
    ],
    ['too many headers', `GET / HTTP/1.1\r\n${host}${'a: b\r\n'.repeat(200)}\r\n`, 431],
    ['a head that is too long', `GET / HTTP/1.1\r\n${host}X: ${'a'.repeat(70_000)}\r\n\r\n`, 431],
    ['a target that is too long', `GET /${'a'.repeat(70_000)} HTTP/1.1\r\n${host}\r\n`, 431],
  ])('%s', async (_what, bytes, status) => {
    const answer = await raw(inside.port, bytes, (text) => text.includes('}\n'));
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(answer).toMatch(/glovebox-egress: denied/);
    expect(arrived).toBe('');
    for (const { decision } of world.record.decisions) expect(decision).toBe('denied');
  });
});

describe('what arrives is written anew', () => {
  test.each<[string, string, string]>([
    [
      'chunks',
      `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\nTrailer: x\r\n\r\n`,
      'abc',
    ],
    ['a length', `POST / HTTP/1.1\r\n${host}Content-Length: 3\r\n\r\nabc`, 'abc'],
    ['a body of a GET', `GET / HTTP/1.1\r\n${host}Content-Length: 3\r\n\r\nabc`, 'abc'],
  ])('%s', async (_what, bytes, body) => {
    const answer = await raw(inside.port, bytes, (text) => text.endsWith('ok'));
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK/);
    await expect.poll(() => arrived).toContain(body);
    expect(arrived.match(/content-length|transfer-encoding/gi)?.length).toBe(1);
    expect(arrived).not.toMatch(/ext=1|Trailer/i);
    expect(arrived.match(/HTTP\/1\.1/g)?.length).toBe(1);
  });

  test('a request hidden in a body stays a body', async () => {
    const hidden = 'GET /hidden HTTP/1.1\r\nHost: other.test\r\n\r\n';
    const bytes = `POST / HTTP/1.1\r\n${host}Content-Length: ${hidden.length}\r\n\r\n${hidden}`;
    await raw(inside.port, bytes, (text) => text.endsWith('ok'));
    expect(world.record.decisions.map(({ path }) => path)).toEqual(['/']);
    expect(arrived).toMatch(new RegExp(`content-length: ${hidden.length}\r\n`, 'i'));
  });

  test('headers of the connection stay on it, and those that it names', async () => {
    const own =
      'Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\nTE: trailers\r\nX-Kept: 2\r\n';
    await raw(inside.port, `GET / HTTP/1.1\r\n${host}${own}\r\n`, (text) => text.endsWith('ok'));
    expect(arrived).toMatch(/x-kept: 2/i);
    expect(arrived).not.toMatch(/x-mine|keep-alive: 5|proxy-connection|te: trailers/i);
  });
});

describe('requests one after the other on a connection', () => {
  const get = (path: string, method = 'GET'): string => `${method} ${path} HTTP/1.1\r\n${host}\r\n`;

  test('are judged one by one, and answered in their order', async () => {
    const answer = await raw(
      inside.port,
      get('/1') + get('/2', 'PUT') + get('/3') + get('/../4') + get('/5'),
      (text) => text.split('HTTP/1.1 ').length === 6 && text.endsWith('ok'),
    );
    expect([...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual([
      '200',
      '403',
      '200',
      '400',
      '200',
    ]);
    expect([...arrived.matchAll(/GET (\S+)/g)].map(([, path]) => path)).toEqual(['/1', '/3', '/5']);
  });

  test('that are too many at once lose the connection', async () => {
    const answer = await raw(inside.port, get('/').repeat(500));
    expect(answer.split('HTTP/1.1 200').length).toBeLessThan(10);
  });

  test('that offer another protocol are taken as if they did not', async () => {
    const offer = 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n';
    const body = `POST /up HTTP/1.1\r\n${host}${offer}Content-Length: 3\r\n\r\nabc`;
    const answer = await raw(inside.port, body + get('/next'), (text) => text.split('200 OK').length === 3);
    expect(answer.split('200 OK').length).toBe(3);
    expect(arrived).not.toMatch(/upgrade|http2-settings/i);
    expect(arrived).toContain('abc');
  });
});

test('a body that nobody reads is taken up to a bound, and then the connection is gone', async () => {
  const head = (length: number): string => `PUT / HTTP/1.1\r\n${host}Content-Length: ${length}\r\n\r\n`;
  const next = `GET /next HTTP/1.1\r\n${host}\r\n`;
  const within = await raw(inside.port, head(90_000) + 'x'.repeat(90_000) + next, (text) => text.endsWith('ok'));
  expect([...within.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual(['403', '200']);
  arrived = '';
  const over = await raw(inside.port, head(4_000_000) + 'x'.repeat(4_000_000) + next);
  expect(over).not.toContain('200 OK');
  expect(arrived).toBe('');
});

test('whatever bytes come, nothing reaches an upstream that was not let through, and the next client is served', async () => {
  const pieces = [
    'GET ',
    'POST ',
    'HEAD ',
    '/ ',
    '/a?b ',
    'http://other.test/ ',
    'HTTP/1.1\r\n',
    'HTTP/1.0\r\n',
    host,
    'Host: other.test\r\n',
    'Content-Length: 5\r\n',
    'Content-Length: -1\r\n',
    'Transfer-Encoding: chunked\r\n',
    'Upgrade: websocket\r\n',
    'Connection: Upgrade\r\n',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n',
    'Sec-WebSocket-Version: 13\r\n',
    'Expect: 100-continue\r\n',
    '\r\n',
    '\n',
    '5\r\nhello\r\n',
    '0\r\n\r\n',
    'ffffffffffff\r\n',
    '\0',
    ' ',
  ];
  const bytes = array(oneof({ weight: 8, arbitrary: constantFrom(...pieces) }, string({ maxLength: 20 })), {
    maxLength: 20,
  });
  await assert(
    asyncProperty(bytes, async (parts) => {
      arrived = '';
      world.record.decisions.length = 0;
      await fed(inside.port, parts.join(''));
      const reached = [...arrived.matchAll(/(?:GET|POST|HEAD) \S+ HTTP\/1\.1\r\nhost: (\S+)/g)];
      const allowed = world.record.decisions.filter(({ decision }) => decision === 'allowed').length;
      expect(reached.length).toBeLessThanOrEqual(2 * allowed);
      for (const [, name] of reached) expect(name).toBe('allowed.test');
    }),
    { numRuns: 150 },
  );
  expect(await raw(inside.port, `GET / HTTP/1.1\r\n${host}\r\n`, (text) => text.endsWith('ok'))).toContain('200 OK');
}, 60_000);

/** Writes and ends; resolves when the connection is over, or has had its time. */
async function fed(port: number, bytes: string): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const bound = new Promise<void>((resolve) => (timer = setTimeout(resolve, 25)));
  await Promise.race([raw(port, Buffer.from(bytes, 'latin1')), bound]);
  clearTimeout(timer);
}

test('a server of Node and its own client agree with what is served here', async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  for (let at = 0; at < 3; at++) {
    const status = await new Promise((resolve, reject) => {
      const options = { host: '127.0.0.1', port: inside.port, headers: { host: 'allowed.test' }, agent };
      http
        .get(options, (response) => response.resume().once('end', () => resolve(response.statusCode)))
        .once('error', reject);
    });
    expect(status).toBe(200);
  }
  agent.destroy();
});

test.each([
  ['and stops', 0],
  ['and goes on byte by byte', 20],
])('a head that begins %s is refused once its time is over', async (_, everyMs) => {
  const socket = connect({ port: inside.port, host: '127.0.0.1' });
  const [startMs, chunks] = [performance.now(), [] as Buffer[]];
  socket.on('error', () => undefined).on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.write(`GET / HTTP/1.1\r\n${host}X: `);
  const dripping = everyMs === 0 ? undefined : setInterval(() => socket.write('y'), everyMs);
  await once(socket, 'end');
  clearInterval(dripping);
  expect(performance.now() - startMs).toBeLessThan(1_500);
  expect(Buffer.concat(chunks).toString()).toMatch(
    /^HTTP\/1\.1 408 [^]*glovebox-egress: denied[^]*not whole 300 ms after/,
  );
  expect(arrived).toBe('');
});
