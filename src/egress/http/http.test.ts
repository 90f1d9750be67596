import { once } from 'node:events';
import * as http from 'node:http';
import * as https from 'node:https';
import { createServer as createTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { EgressFailure } from '../failure.ts';
import { serveHttp } from './http.ts';
import { agentOf, askOver, echo, headerOf, type HttpAnswered, type HttpAsked } from './http-client.fixture.ts';
import { closeServer, listen, listenerFor, raw, worldOf, type Listener, type World } from './http.fixture.ts';
import { judgeOf, ruleWith } from '../checkpoint/judge.fixture.ts';

const methods = ['GET', 'HEAD', 'POST', 'PUT'];
const rule = ruleWith({
  methods,
  ports: [80, 443, 81, 82],
  maxSentBytes: 2_000_000,
  maxReceivedBytes: 3_000_000,
  timeoutMs: 20_000,
});
const small = ruleWith({
  id: 'small',
  host: ['small.test'],
  methods,
  ports: [80],
  maxSentBytes: 1000,
  maxReceivedBytes: 5000,
});

let world: World;
let upstream: http.Server;
let secure: https.Server;
let plain: Listener;
let inside: Listener;
let toSmall: Listener;
/** Every request that reached the upstream, as it came. */
const arrived: { readonly line: string; readonly rawHeaders: string[] }[] = [];
const behaviour: { answer: (request: http.IncomingMessage, response: http.ServerResponse) => void } = { answer: echo };

beforeAll(async () => {
  const answer = (request: http.IncomingMessage, response: http.ServerResponse): void => {
    arrived.push({ line: `${request.method} ${request.url}`, rawHeaders: request.rawHeaders });
    behaviour.answer(request, response);
  };
  upstream = http.createServer(answer);
  const port = await listen(upstream);
  const ports: Record<number, number> = { 80: port, 82: port };
  world = await worldOf([rule, small], ports);
  const context = world.upstreamAuthority.contextOf('allowed.test');
  secure = https.createServer({ SNICallback: (_name, done) => done(null, context) }, answer);
  ports[443] = await listen(secure);
  const conversation = { host: 'allowed.test', callId: 'c1', via: 'name' } as const;
  plain = await listenerFor((inner) => serveHttp({ ...conversation, inner, port: 80 }, { tls: false }, world.deps));
  inside = await listenerFor((inner) => serveHttp({ ...conversation, inner, port: 443 }, { tls: true }, world.deps));
  toSmall = await listenerFor((inner) => {
    return serveHttp({ ...conversation, host: 'small.test', inner, port: 80 }, { tls: false }, smallDeps());
  });
});

afterAll(async () => {
  await Promise.all([plain.close(), inside.close(), toSmall.close(), closeServer(upstream), closeServer(secure)]);
});

beforeEach(() => {
  arrived.length = 0;
  world.record.decisions.length = 0;
  world.record.ends.length = 0;
  behaviour.answer = echo;
});

describe('a request over TLS that is looked into', () => {
  test('arrives as it was judged, and is on record with how it ended', async () => {
    const answer = await get({ path: '/a/b?secret=1', headers: { 'x-own': 'kept' } });
    expect(answer.status).toBe(200);
    expect(answer.body).toBe('GET /a/b?secret=1 ');
    expect(headerOf(arrived[0]?.rawHeaders, 'host')).toBe('allowed.test');
    expect(headerOf(arrived[0]?.rawHeaders, 'x-own')).toBe('kept');
    await ended(1);
    expect(world.record.decisions).toMatchObject([
      {
        host: 'allowed.test',
        port: 443,
        scheme: 'https',
        method: 'GET',
        path: '/a/b',
        rule: 'r',
        decision: 'allowed',
        callId: 'c1',
      },
    ]);
    expect(world.record.ends).toMatchObject([{ result: 'done', status: 200, address: '127.0.0.1' }]);
    expect(world.record.ends[0]?.receivedBytes).toBeGreaterThan(18);
  });

  test('is one of many on a connection, each judged, over one connection to the upstream', async () => {
    const before = world.dials.length;
    const agent = agentOf();
    for (const method of ['GET', 'POST', 'DELETE', 'GET']) {
      const answer = await get({ agent, method, ...(method === 'POST' ? { body: 'hello' } : {}) });
      expect(answer.status).toBe(method === 'DELETE' ? 403 : 200);
    }
    agent.destroy();
    expect(arrived.map(({ line }) => line)).toEqual(['GET /', 'POST /', 'GET /']);
    expect(world.dials.length - before).toBe(1);
  });

  test('that no rule allows is answered at once, in words for a program and for a model', async () => {
    const answer = await get({ method: 'DELETE', path: '/thing?token=abc' });
    expect(answer.status).toBe(403);
    expect(answer.headers['glovebox-egress']).toBe('denied');
    expect(answer.headers['content-type']).toBe('application/json; charset=utf-8');
    const told = JSON.parse(answer.body) as Record<string, string>;
    expect(told).toMatchObject({ error: 'denied', asked: 'DELETE https://allowed.test/thing' });
    expect(told['reason']).not.toBe('');
    expect(told['hint']).not.toBe('');
    expect(answer.body).not.toContain('abc');
    expect(arrived).toEqual([]);
  });

  test.each([
    ['another name in Host', 'other.test', 421],
    ['another port in Host', 'allowed.test:444', 421],
    ['a user in Host', 'allowed.test@other.test', 421],
    ['an address in Host', '127.0.0.1', 421],
  ])('with %s goes nowhere', async (_what, host, status) => {
    const answer = await get({ headers: { host } });
    expect(answer.status).toBe(status);
    expect(arrived).toEqual([]);
    expect(world.record.decisions).toMatchObject([{ decision: 'denied', host: 'allowed.test' }]);
  });

  test('may name its own port, and write the name in capitals', async () => {
    expect((await get({ headers: { host: 'ALLOWED.test:443' } })).status).toBe(200);
    expect(headerOf(arrived[0]?.rawHeaders, 'host')).toBe('allowed.test');
  });

  test.each([
    ['another name in SNI', 'other.test'],
    ['no SNI', ''],
  ])('with %s finds nobody to shake hands with', async (_what, servername) => {
    const before = world.dials.length;
    const socket = connectTls({ port: inside.port, host: '127.0.0.1', servername, rejectUnauthorized: false });
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toMatch(/ECONNRESET|ERR_SSL/);
    await inside.served.at(-1);
    expect(world.record.decisions).toMatchObject([{ decision: 'denied' }]);
    expect(world.dials.length).toBe(before);
  });

  test('of a client that does not trust the authority is told in the record', async () => {
    const socket = connectTls({ port: inside.port, host: '127.0.0.1', servername: 'allowed.test', ca: [] });
    await once(socket, 'error');
    await inside.served.at(-1);
    // With TLS 1.3 the client may be gone before it has said why.
    for (const { reason } of world.record.decisions) expect(reason).toMatch(/SSL_CERT_FILE/);
  });

  test('is not sent when the certificate of the upstream is not good', async () => {
    const deps = { ...world.deps, network: { ...world.deps.network, secure: untrusting() } };
    const answer = await throughNew({ tls: true, port: 443, deps }, (port) => get({ port }));
    expect(answer.status).toBe(502);
    expect(answer.headers['glovebox-egress']).toBe('refused');
    expect(arrived).toEqual([]);
  });
});

describe('what an upstream does', () => {
  test('a redirect is passed on, not followed', async () => {
    behaviour.answer = (_request, response) => response.writeHead(302, { location: 'http://169.254.169.254/' }).end();
    const answer = await get({});
    expect(answer.status).toBe(302);
    expect(answer.headers.location).toBe('http://169.254.169.254/');
    expect(arrived.length).toBe(1);
  });

  test('headers of its own connection, and those that only the runner may send, stay behind', async () => {
    behaviour.answer = (_request, response) => {
      response.writeHead(200, [
        'Glovebox-Egress',
        'denied',
        'Alt-Svc',
        'h3=":443"',
        'X-Hop',
        '1',
        'Connection',
        'x-hop',
        'Set-Cookie',
        'a=1',
        'Set-Cookie',
        'b=2',
      ]);
      response.end('ok');
    };
    const { headers } = await get({});
    expect(headers).toMatchObject({ 'set-cookie': ['a=1', 'b=2'] });
    for (const name of ['glovebox-egress', 'alt-svc', 'x-hop']) expect(headers).not.toHaveProperty(name);
  });

  test('an answer that ends too early is cut, not completed', async () => {
    behaviour.answer = (_request, response) => {
      response.writeHead(200, { 'content-length': '100' }).write('half');
      setImmediate(() => response.destroy());
    };
    await expect(get({})).rejects.toThrow(/aborted|hang up|ECONNRESET/);
    await ended(1);
    expect(world.record.ends[0]?.result).not.toBe('done');
  });

  test.each([
    ['refused', 502, 81],
    ['unresolvable', 502, 82],
  ] as const)('%s is told as that', async (kind, status, port) => {
    const closed = createTcp();
    const closedPort = await listen(closed);
    await closeServer(closed);
    const network = {
      ...world.deps.network,
      dial: (wanted: Parameters<typeof world.deps.network.dial>[0]) =>
        kind === 'unresolvable'
          ? Promise.reject(new EgressFailure('unresolvable', 'no such name'))
          : world.deps.network.dial({ ...wanted, port: closedPort }),
    };
    const answer = await throughNew({ tls: false, port, deps: { ...world.deps, network } }, (own) =>
      get({ port: own, tls: false, headers: { host: `allowed.test:${port}` } }),
    );
    expect([answer.status, answer.headers['glovebox-egress']]).toEqual([status, kind]);
    expect(JSON.parse(answer.body)).toMatchObject({ error: kind });
    await ended(1);
    expect(world.record.ends).toMatchObject([{ result: kind }]);
  });

  test('a server that speaks something else is told as that', async () => {
    const odd = createTcp((socket) => socket.resume().end('SSH-2.0-OpenSSH\r\n'));
    const port = await listen(odd);
    const network = {
      ...world.deps.network,
      dial: (wanted: Parameters<typeof world.deps.network.dial>[0]) => world.deps.network.dial({ ...wanted, port }),
    };
    const answer = await throughNew({ tls: false, port: 80, deps: { ...world.deps, network } }, (own) =>
      get({ port: own, tls: false }),
    );
    expect([answer.status, answer.headers['glovebox-egress']]).toEqual([502, 'broken']);
    await closeServer(odd);
  });

  test('a kept connection that it has closed is not an error of the next request', async () => {
    behaviour.answer = (request, response) => {
      echo(request, response);
      response.once('finish', () => setImmediate(() => request.socket.destroy()));
    };
    const agent = agentOf();
    for (let at = 0; at < 5; at++) expect((await get({ agent })).status).toBe(200);
    agent.destroy();
  });
});

describe('bodies', () => {
  test('go both ways whole, at the pace of whoever reads', async () => {
    const body = Buffer.alloc(1_500_000, 'abcdefghij');
    behaviour.answer = (request, response) => void request.pipe(response);
    const answer = await get({ method: 'POST', body });
    expect(answer.body === body.toString()).toBe(true);
    await ended(1);
    expect(world.record.ends[0]?.sentBytes).toBeGreaterThan(body.length);
  });

  test('HEAD and 304 have none, and keep what they say of it', async () => {
    behaviour.answer = (request, response) => {
      if (request.url === '/304') response.writeHead(304, { etag: '"x"' }).end();
      else response.writeHead(200, { 'content-length': '1234' }).end();
    };
    const agent = agentOf();
    const head = await get({ agent, method: 'HEAD' });
    expect([head.status, head.headers['content-length'], head.body]).toEqual([200, '1234', '']);
    expect((await get({ agent, path: '/304' })).status).toBe(304);
    agent.destroy();
  });

  test('are asked for with 100 Continue only once the request is let through', async () => {
    const asked = (method: string): string =>
      `${method} / HTTP/1.1\r\nHost: allowed.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n`;
    const denied = await raw(plain.port, asked('DELETE'), (text) => text.includes('}'));
    expect(denied).toMatch(/^HTTP\/1\.1 403 /);
    expect(denied).not.toContain('100 Continue');
    const socket = raw(plain.port, asked('POST'), (text) => text.includes('100 Continue'));
    expect(await socket).toMatch(/^HTTP\/1\.1 100 Continue/);
    const whole = await raw(plain.port, `${asked('POST')}hello`, (text) => text.includes('hello'));
    expect(whole).toContain('POST / hello');
    expect(arrived.flatMap(({ rawHeaders }) => rawHeaders).map((text) => text.toLowerCase())).not.toContain('expect');
  });

  test('that announce more than the rule lets out never begin', async () => {
    const answer = await get({
      port: toSmall.port,
      tls: false,
      method: 'POST',
      body: 'x'.repeat(1001),
      headers: { host: 'small.test' },
    });
    expect(answer.status).toBe(403);
    expect(JSON.parse(answer.body)).toMatchObject({ error: 'denied', rule: 'small' });
    expect(arrived).toEqual([]);
  });

  test('that turn out to be more than the rule lets out are cut there', async () => {
    const chunk = `190\r\n${'y'.repeat(400)}\r\n`;
    const head = 'POST / HTTP/1.1\r\nHost: small.test\r\nTransfer-Encoding: chunked\r\n\r\n';
    let bytes = 0;
    behaviour.answer = (request) =>
      request.on('data', (data: Buffer) => (bytes += data.length)).on('error', () => undefined);
    const answer = await raw(toSmall.port, head + chunk.repeat(4), (text) => text.includes('}'));
    expect(answer).toMatch(/^HTTP\/1\.1 403 [^]*glovebox-egress: cut/);
    expect(bytes).toBeLessThanOrEqual(1000);
  });

  test('that are more than the rule lets in are cut there', async () => {
    behaviour.answer = (_request, response) => response.end(Buffer.alloc(100_000));
    await expect(get({ port: toSmall.port, tls: false, headers: { host: 'small.test' } })).rejects.toThrow();
    await ended(1);
    expect(world.record.ends).toMatchObject([{ result: 'cut' }]);
    expect(world.record.ends[0]?.receivedBytes).toBeLessThanOrEqual(5000);
  });
});

test('what a narrower policy does not allow any more is cut in the middle, on both sides', async () => {
  const own = await worldOf([rule], { 80: (upstream.address() as { port: number }).port });
  let stopped: () => void = () => undefined;
  const closed = new Promise<void>((resolve) => (stopped = resolve));
  behaviour.answer = (_request, response) => {
    response.write('first');
    response.once('close', stopped);
  };
  const listener = await listenerFor((inner) =>
    serveHttp({ inner, host: 'allowed.test', port: 80, callId: undefined, via: 'name' }, { tls: false }, own.deps),
  );
  let narrowed = false;
  await raw(listener.port, 'GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n', (text) => {
    if (text.includes('first') && !narrowed) own.checkpoint.narrow(judgeOf([]));
    narrowed ||= text.includes('first');
    return false;
  });
  await closed;
  await listener.close();
});

test('a connection that asks nothing is closed', async () => {
  const deps = { ...world.deps, limits: { idleMs: 50 } };
  expect(await throughNew({ tls: false, port: 80, deps }, (port) => raw(port, ''))).toBe('');
});

function get(asked: Partial<HttpAsked>): Promise<HttpAnswered> {
  return askOver({ port: inside.port, tls: true, ca: world.authority.pem, ...asked });
}

async function throughNew<T>(
  how: { readonly tls: boolean; readonly port: number; readonly deps: World['deps'] },
  work: (port: number) => Promise<T>,
): Promise<T> {
  const ask = { host: 'allowed.test', port: how.port, callId: undefined, via: 'name' } as const;
  const listener = await listenerFor((inner) => serveHttp({ ...ask, inner }, how, how.deps));
  try {
    return await work(listener.port);
  } finally {
    await listener.close();
  }
}

function untrusting(): World['deps']['network']['secure'] {
  return (socket) => {
    socket.destroy();
    return Promise.reject(new EgressFailure('refused', 'the certificate is not good'));
  };
}

/** `small.test` is where `allowed.test` is. */
function smallDeps(): World['deps'] {
  return {
    ...world.deps,
    network: { ...world.deps.network, dial: (wanted) => world.deps.network.dial({ ...wanted, host: 'allowed.test' }) },
  };
}

async function ended(count: number): Promise<void> {
  await expect.poll(() => world.record.ends.length).toBe(count);
}
