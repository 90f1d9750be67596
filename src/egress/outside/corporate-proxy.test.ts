import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { createServer as createSecure } from 'node:https';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import type { LookupAll } from './connect.ts';
import { CorporateProxy } from './corporate-proxy.ts';
import { EgressFailure } from '../failure.ts';
import { Network, type DialAsk } from './network.ts';
import { onlyPublic } from '../checkpoint/pass.fixture.ts';
import { Sink, until } from '../sockets.fixture.ts';
import { TestAuthority } from '../tls.fixture.ts';

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

interface Proxy {
  readonly url: string;
  readonly targets: string[];
  readonly authorizations: (string | undefined)[];
}

/** A real CONNECT proxy that leads everything to one port of this machine. */
async function proxyTo(port: number, server: Server = createServer()): Promise<Proxy> {
  const targets: string[] = [];
  const authorizations: (string | undefined)[] = [];
  server.on('connect', (request, client: Socket) => {
    targets.push(request.url ?? '');
    authorizations.push(request.headers['proxy-authorization']);
    const upstream = connect({ port, host: '127.0.0.1' }, () => {
      client.write('HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n');
      upstream.pipe(client).pipe(upstream);
    });
    for (const socket of [upstream, client]) socket.on('error', () => undefined);
    closing.push(() => client.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, targets, authorizations };
}

async function sink(answer?: string): Promise<Sink> {
  const opened = await new Sink().open();
  if (answer !== undefined) opened.server.on('connection', (socket: Socket) => socket.write(answer));
  closing.push(() => opened.close());
  return opened;
}

function ask(host: string, port: number, more: Partial<DialAsk> = {}): DialAsk {
  return { host, port, check: onlyPublic(), timeoutMs: 3_000, signal: new AbortController().signal, ...more };
}

async function failure(work: Promise<unknown>): Promise<EgressFailure> {
  return await work.then(
    () => {
      throw new Error('it was let through');
    },
    (error: unknown) => error as EgressFailure,
  );
}

describe('through the proxy of the machine', () => {
  test('a name goes there unresolved, with its credentials; bytes behind its answer are not lost', async () => {
    const upstream = await sink('220 hello');
    const proxy = await proxyTo(upstream.port);
    const network = new Network({ proxy: proxy.url.replace('//', '//user:p%40ss@') });
    const { socket, address } = await network.dial(ask('registry.test', 443));
    expect(address).toBeNull();
    expect(proxy.targets).toEqual(['registry.test:443']);
    expect(proxy.authorizations).toEqual([`Basic ${Buffer.from('user:p@ss').toString('base64')}`]);
    const [first] = (await once(socket, 'data')) as [Buffer];
    expect(first.toString()).toBe('220 hello');
    socket.write('abc');
    await until(() => upstream.received.toString() === 'abc', 'bytes arrive');
    socket.destroy();
  });

  test('over TLS, when its URL says so', async () => {
    const authority = new TestAuthority();
    closing.push(() => authority.remove());
    const upstream = await sink('220 hello');
    const proxy = await proxyTo(upstream.port, createSecure(authority.issue('127.0.0.1')));
    const network = new Network({ proxy: proxy.url.replace('http', 'https'), ca: [authority.pem] });
    const { socket } = await network.dial(ask('registry.test', 443));
    const [first] = (await once(socket, 'data')) as [Buffer];
    expect(first.toString()).toBe('220 hello');
    socket.destroy();
    const untrusted = new Network({ proxy: proxy.url.replace('http', 'https') });
    expect(await failure(untrusted.dial(ask('registry.test', 443)))).toMatchObject({ kind: 'refused' });
  });

  test('an address is judged before the proxy hears of it', async () => {
    const upstream = await sink();
    const proxy = await proxyTo(upstream.port);
    const network = new Network({ proxy: proxy.url });
    for (const host of ['10.0.0.1', '169.254.169.254', '::ffff:10.0.0.1']) {
      expect(await failure(network.dial(ask(host, 80)))).toMatchObject({ kind: 'denied' });
    }
    expect(proxy.targets).toEqual([]);
  });

  test('what the operator pinned or exempted is dialled without it', async () => {
    const upstream = await sink();
    const proxy = await proxyTo(upstream.port);
    const hosts = { 'pinned.test': ['127.0.0.1'], 'near.corp.test': ['127.0.0.1'] };
    const network = new Network({ proxy: proxy.url, noProxy: ['.corp.test'], hosts });
    for (const host of Object.keys(hosts)) {
      const { socket, address } = await network.dial(ask(host, upstream.port, { check: onlyPublic('127.0.0.1') }));
      expect(address).toBe('127.0.0.1');
      socket.destroy();
    }
    expect(proxy.targets).toEqual([]);
  });

  test.each([
    ['refuses', 'HTTP/1.1 403 Forbidden\r\n\r\n', 'refused'],
    ['gave up on the upstream', 'HTTP/1.1 504 Gateway Timeout\r\n\r\n', 'timed_out'],
    ['speaks something else', 'SSH-2.0-OpenSSH\r\n\r\n', 'refused'],
    ['never ends its answer', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(20_000)}`, 'refused'],
  ])('one that %s is no way out, and its credentials are in no message', async (_, answer, kind) => {
    const broken = await sink(answer);
    const network = new Network({ proxy: `http://user:secret@127.0.0.1:${broken.port}` });
    const refused = await failure(network.dial(ask('registry.test', 443)));
    expect(refused).toMatchObject({ kind });
    expect(JSON.stringify([refused.message, refused.reason, refused.hint])).not.toContain('secret');
    await until(() => broken.sockets.every((socket) => socket.readableEnded || socket.destroyed), 'it is closed');
  });

  test('one that is silent is a time-out, one that hangs up is refused', async () => {
    const silent = await sink();
    const network = new Network({ proxy: `http://127.0.0.1:${silent.port}` });
    const late = network.dial(ask('registry.test', 443, { timeoutMs: 200 }));
    expect(await failure(late)).toMatchObject({ kind: 'timed_out' });
    const gone = failure(network.dial(ask('registry.test', 443)));
    await until(() => silent.sockets.length === 2, 'it connects');
    silent.sockets[1]?.end();
    expect(await gone).toMatchObject({ kind: 'refused' });
  });
});

test('a proxy whose name nobody can say costs one lookup at a time, however many wait for it, and is found once somebody can', async () => {
  const behind = await sink('hello');
  const { url } = await proxyTo(behind.port);
  const asked: Parameters<LookupAll>[1][] = [];
  const lookupAll: LookupAll = (_, answer) => void asked.push(answer);
  const proxy = new CorporateProxy({ proxy: `http://proxy.test:${new URL(url).port}`, noProxy: [], lookupAll });
  const tunnel = (signal: AbortSignal): Promise<Socket> =>
    proxy.tunnel('a.test', 443, (raw) => Promise.resolve(raw), signal);
  const given = new AbortController();
  const early = Promise.allSettled(Array.from({ length: 30 }, () => tunnel(given.signal)));
  given.abort(new EgressFailure('timed_out', 'no answer'));
  expect((await early).every(({ status }) => status === 'rejected')).toBe(true);
  const late = [1, 2].map(() => tunnel(new AbortController().signal));
  expect(asked).toHaveLength(1);
  asked[0]?.(null, [{ address: '127.0.0.1', family: 4 }]);
  for (const socket of await Promise.all(late)) socket.destroy();
  expect(asked).toHaveLength(1);
});

describe('no_proxy', () => {
  const proxy = new CorporateProxy({
    proxy: 'http://proxy.test:3128',
    noProxy: [
      'exact.test',
      '.suffix.test',
      '*.star.test',
      '10.0.0.0/8',
      '192.0.2.7',
      'fd00::/8',
      '[2001:db8::1]',
      'x/99',
    ],
  });

  test.each([
    ['exact.test', false],
    ['sub.exact.test', false],
    ['notexact.test', true],
    ['suffix.test', false],
    ['a.suffix.test', false],
    ['a.star.test', false],
    ['10.1.2.3', false],
    ['11.1.2.3', true],
    ['192.0.2.7', false],
    ['192.0.2.8', true],
    ['fd00::1', false],
    ['2001:db8::1', false],
    ['2001:db8::2', true],
    ['127.0.0.1', false],
    ['other.test', true],
  ])('%s goes through the proxy: %s', (host, through) => {
    expect(proxy.serves(host)).toBe(through);
  });

  test('* is for all', () => {
    const none = new CorporateProxy({ proxy: 'http://proxy.test', noProxy: ['*'] });
    expect([none.serves('a.test'), none.serves('192.0.2.1')]).toEqual([false, false]);
  });
});
