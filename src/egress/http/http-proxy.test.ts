import { once } from 'node:events';
import * as http from 'node:http';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { fetch, ProxyAgent } from 'undici';
import type { Conversation } from '../conversation.ts';
import { serveProxy } from './http-proxy.ts';
import { serveHttp } from './http.ts';
import { closeServer, listen, listenerFor, raw, worldOf, type Listener, type World } from './http.fixture.ts';
import { ruleWith } from '../checkpoint/judge.fixture.ts';

const looked = ruleWith({ id: 'looked', ports: [443], websocket: true });
const plainRule = ruleWith({ id: 'plain', host: ['plain.test'], ports: [80, 8080], tls: 'none', websocket: true });

let world: World;
let upstream: http.Server;
let proxy: Listener;
const arrived: http.IncomingMessage[] = [];
const carried: Conversation[] = [];

beforeAll(async () => {
  upstream = http.createServer((request, response) => {
    arrived.push(request);
    response.end(`${request.headers.host} ${request.url}`);
  });
  new WebSocketServer({ server: upstream }).on('connection', (client) =>
    client.on('message', (data: Buffer) => client.send(data)),
  );
  const port = await listen(upstream);
  world = await worldOf([looked, plainRule], { 443: port, 80: port, 8080: port });
  const network = {
    dial: (wanted: Parameters<typeof world.deps.network.dial>[0]) =>
      world.deps.network.dial({ ...wanted, host: 'allowed.test' }),
    secure: (socket: Socket) => Promise.resolve(socket as TLSSocket),
  };
  const deps = { ...world.deps, network };
  proxy = await listenerFor((inner) =>
    serveProxy(inner, () => 'c7', {
      checkpoint: world.checkpoint,
      carry: (conversation) => {
        carried.push(conversation);
        return serveHttp(conversation, { tls: conversation.port === 443 }, deps);
      },
      http: deps,
    }),
  );
});

afterAll(async () => {
  await Promise.all([proxy.close(), closeServer(upstream)]);
});

beforeEach(() => {
  arrived.length = 0;
  carried.length = 0;
  world.record.decisions.length = 0;
});

describe('a tunnel', () => {
  test('is what a connection to the name would have been', async () => {
    const agent = new ProxyAgent({ uri: `http://127.0.0.1:${proxy.port}`, requestTls: { ca: world.authority.pem } });
    const answer = await fetch('https://allowed.test/a?b', { dispatcher: agent });
    expect([answer.status, await answer.text()]).toEqual([200, 'allowed.test /a?b']);
    const denied = await fetch('https://allowed.test/', { dispatcher: agent, method: 'DELETE' });
    expect([denied.status, denied.headers.get('glovebox-egress')]).toEqual([403, 'denied']);
    await agent.close();
    expect({ ...carried[0], inner: null }).toMatchObject({
      host: 'allowed.test',
      port: 443,
      via: 'proxy',
      callId: 'c7',
    });
    expect(world.record.decisions.map(({ decision, via }) => [decision, via])).toEqual([
      ['allowed', 'proxy'],
      ['denied', 'proxy'],
    ]);
  });

  test('that no rule allows is refused before it begins, in words', async () => {
    const answer = await raw(proxy.port, 'CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n');
    expect(answer).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n/);
    expect(answer).toMatch(/glovebox-egress: denied\r\n/);
    expect(JSON.parse(answer.split('\r\n\r\n')[1] ?? '')).toMatchObject({
      error: 'denied',
      asked: 'CONNECT other.test:443',
    });
    expect(carried).toEqual([]);
    expect(world.record.decisions).toMatchObject([
      { decision: 'denied', host: 'other.test', port: 443, via: 'proxy', callId: 'c7' },
    ]);
  });

  test.each([
    ['another port', 'allowed.test:22'],
    ['an address', '127.0.0.1:443'],
    ['an address as a number', '2130706433:443'],
    ['an address in octal', '0177.0.0.1:443'],
    ['a short address', '127.1:443'],
    ['an address in IPv6', '[::1]:443'],
    ['IPv4 in IPv6', '[::ffff:127.0.0.1]:443'],
    ['no port', 'allowed.test'],
    ['an empty port', 'allowed.test:'],
    ['port 0', 'allowed.test:0'],
    ['a port that is too large', 'allowed.test:65979'],
    ['a port with a zero before it', 'allowed.test:0443'],
    ['a signed port', 'allowed.test:+443'],
    ['two ports', 'allowed.test:443:443'],
    ['a user', 'allowed.test@other.test:443'],
    ['a user and a password', 'a:b@allowed.test:443'],
    ['a dot at the end', 'allowed.test.:443'],
    ['a dot too many', 'allowed..test:443'],
    ['an escape', 'allowed%2etest:443'],
    ['a URL', 'https://allowed.test:443'],
    ['a path', 'allowed.test:443/'],
    ['a query', 'allowed.test:443?'],
    ['another alphabet', 'all\u00f6wed.test:443'],
    ['the dot of another alphabet', 'allowed\u3002test:443'],
  ])('to %s is refused', async (_what, authority) => {
    const answer = await raw(proxy.port, Buffer.from(`CONNECT ${authority} HTTP/1.1\r\n\r\n`));
    expect(answer).toMatch(/^HTTP\/1\.1 40[03] /);
    expect(answer).toMatch(/glovebox-egress: denied\r\n/);
    expect(carried).toEqual([]);
    expect(arrived).toEqual([]);
  });

  test.each([
    ['with another Host', 'CONNECT allowed.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n'],
    ['with two Hosts', 'CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test\r\nHost: allowed.test\r\n\r\n'],
    ['in small letters', 'connect allowed.test:443 HTTP/1.1\r\nHost: allowed.test:443\r\n\r\n'],
  ])('%s is refused', async (_what, bytes) => {
    expect(await raw(proxy.port, bytes)).toMatch(/^HTTP\/1\.1 40[03] [^]*glovebox-egress: denied/);
    expect(carried).toEqual([]);
  });

  test('begins with what was sent behind its head', async () => {
    const early =
      'CONNECT plain.test:80 HTTP/1.1\r\nHost: plain.test:80\r\n\r\nGET /early HTTP/1.1\r\nHost: plain.test\r\n\r\n';
    const answer = await raw(proxy.port, early, (text) => text.includes('/early'));
    expect(answer).toMatch(/^HTTP\/1\.1 200 Connection established\r\n\r\nHTTP\/1\.1 200 OK/);
  });

  test('inside holds TLS with its own name, or none', async () => {
    const socket = connect({ port: proxy.port, host: '127.0.0.1' });
    socket.write('CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test:443\r\n\r\n');
    await once(socket, 'data');
    const tls = connectTls({ socket, servername: 'other.test', ca: world.authority.pem });
    await once(tls, 'error');
    expect(arrived).toEqual([]);
  });
});

describe('a request in absolute form', () => {
  const url = (target: string, headers: string, method = 'GET'): string =>
    `${method} ${target} HTTP/1.1\r\n${headers}\r\n`;
  const whole = (text: string): boolean => /\r\n\r\n.+/.test(text);

  test('is carried, with the headers for proxies left behind', async () => {
    const headers =
      'Host: plain.test\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nX-Kept: 1\r\n';
    expect(await raw(proxy.port, url('http://plain.test/a?b', headers), whole)).toMatch(
      /^HTTP\/1\.1 200 OK[^]*plain\.test \/a\?b$/,
    );
    expect(arrived[0]?.headers).toMatchObject({ host: 'plain.test', 'x-kept': '1' });
    expect(Object.keys(arrived[0]?.headers ?? {}).filter((name) => name.startsWith('proxy'))).toEqual([]);
    expect(world.record.decisions).toMatchObject([
      { host: 'plain.test', port: 80, scheme: 'http', path: '/a', via: 'proxy', decision: 'allowed' },
    ]);
  });

  test('may be for another host each time, each judged', async () => {
    const bytes = [
      url('http://plain.test/1', 'Host: plain.test\r\n'),
      url('http://other.test/2', 'Host: other.test\r\n'),
      url('http://plain.test:8080/3', 'Host: plain.test:8080\r\n'),
      url('http://PLAIN.test', 'Host: plain.test\r\n'),
    ].join('');
    const answer = await raw(proxy.port, bytes, (text) => text.endsWith('plain.test /'));
    expect([...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual(['200', '403', '200', '200']);
    expect(arrived.map(({ url: path }) => path)).toEqual(['/1', '/3', '/']);
  });

  test.each([
    ['https', 'https://allowed.test/', 'Host: allowed.test\r\n', 400],
    ['another scheme', 'ftp://plain.test/', 'Host: plain.test\r\n', 400],
    ['a path alone', '/', 'Host: plain.test\r\n', 400],
    ['another Host', 'http://plain.test/', 'Host: other.test\r\n', 421],
    ['no Host', 'http://plain.test/', '', 400],
    ['a user', 'http://a@plain.test/', 'Host: plain.test\r\n', 400],
    ['no host', 'http:///a', 'Host: plain.test\r\n', 400],
    ['an address', 'http://127.0.0.1/', 'Host: 127.0.0.1\r\n', 403],
    ['an address as a number', 'http://2130706433/', 'Host: 2130706433\r\n', 403],
    ['IPv6', 'http://[::1]/', 'Host: [::1]\r\n', 400],
    ['dot segments', 'http://plain.test/a/../b', 'Host: plain.test\r\n', 400],
  ])('with %s is refused', async (_what, target, headers, status) => {
    const answer = await raw(proxy.port, url(target, headers), (text) => text.includes('}\n'));
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} [^]*glovebox-egress: denied`));
    expect(arrived).toEqual([]);
  });

  test('may ask for a WebSocket', async () => {
    const client = new WebSocket('ws://plain.test/', {
      createConnection: () => connect({ port: proxy.port, host: '127.0.0.1' }),
      finishRequest: (request) => {
        request.path = 'http://plain.test/';
        request.end();
      },
    });
    await once(client, 'open');
    client.send('hello');
    const [answer] = (await once(client, 'message')) as [Buffer];
    expect(answer.toString()).toBe('hello');
    client.close();
    await once(client, 'close');
  });
});

test('a tunnel that is asked for behind a request that is not answered is none', async () => {
  const bytes =
    'GET http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\n\r\nCONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test:443\r\n\r\n';
  const answer = await raw(proxy.port, bytes);
  expect(answer).not.toContain('established');
  expect(carried).toEqual([]);
});
