import { once } from 'node:events';
import * as http from 'node:http';
import { createServer as createTcp, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { connect } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { serveHttp } from './http.ts';
import { closeServer, listen, listenerFor, raw, worldOf, type Listener, type World } from './http.fixture.ts';
import { judgeOf, ruleWith } from '../checkpoint/judge.fixture.ts';

const rule = ruleWith({
  id: 'sockets',
  ports: [80, 443],
  websocket: true,
  maxReceivedBytes: 200_000,
  maxSentBytes: 200_000,
});
const without = ruleWith({ id: 'no-sockets', host: ['other.test'], ports: [80] });

let world: World;
let upstream: http.Server;
let secure: Listener;
let plain: Listener;
let other: Listener;
let upgrades = 0;

beforeAll(async () => {
  upstream = http.createServer((_request, response) => response.writeHead(418).end('no upgrade'));
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => [...offered][0] ?? false });
  upstream.on('upgrade', (request, socket, head) => {
    upgrades += 1;
    socket.on('error', () => undefined).once('end', () => socket.end());
    socket.resume();
    if (request.url === '/never') {
      socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno');
      return;
    }
    if (request.url === '/wrong') {
      socket.write(
        'HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\nsecret',
      );
      return;
    }
    sockets.handleUpgrade(request, socket, head, (client) => {
      if (request.url === '/flood') client.send(Buffer.alloc(1_000_000));
      client.on('message', (data: Buffer, isBinary) => client.send(data, { binary: isBinary }));
    });
  });
  const port = await listen(upstream);
  world = await worldOf([rule, without], { 443: port, 80: port });
  const judge = judgeOf([rule, without]);
  const decide: typeof judge.decide = (asked) => {
    const answer = judge.decide(asked);
    if (answer.kind === 'allowed' && asked.websocket === true && !answer.rule.websocket) {
      return { kind: 'unlisted', id: 'egress.profiles', reason: 'no WebSocket here' };
    }
    return answer;
  };
  world.checkpoint.narrow({ ...judge, decide, address: () => ({ kind: 'allowed', named: true }) });
  const network = {
    dial: (wanted: Parameters<typeof world.deps.network.dial>[0]) =>
      world.deps.network.dial({ ...wanted, host: 'allowed.test' }),
    secure: (socket: Socket) => Promise.resolve(socket as TLSSocket),
  };
  const deps = { ...world.deps, network };
  const served = (host: string, port: number) =>
    listenerFor((inner) =>
      serveHttp({ inner, host, port, callId: undefined, via: 'name' }, { tls: port === 443 }, deps),
    );
  [secure, plain, other] = await Promise.all([
    served('allowed.test', 443),
    served('allowed.test', 80),
    served('other.test', 80),
  ]);
});

afterAll(async () => {
  upstream.closeAllConnections();
  await Promise.all([secure.close(), plain.close(), other.close(), closeServer(upstream)]);
});

beforeEach(() => {
  upgrades = 0;
  world.record.ends.length = 0;
});

describe('a WebSocket that a rule allows', () => {
  test.each([true, false])('carries messages both ways (TLS: %s)', async (tls) => {
    const client = opened(tls, '/', ['chat']);
    await once(client, 'open');
    expect(client.protocol).toBe('chat');
    for (const text of ['one', 'two', 'x'.repeat(50_000)]) {
      client.send(text);
      const [answer] = (await once(client, 'message')) as [Buffer];
      expect(answer.toString()).toBe(text);
    }
    client.close();
    await once(client, 'close');
    await expect.poll(() => world.record.ends).toMatchObject([{ result: 'done', status: 101 }]);
    expect(world.record.ends[0]?.sentBytes).toBeGreaterThan(50_000);
  });

  test('may be refused by the upstream, in its own words', async () => {
    const client = opened(true, '/never');
    const [error] = (await once(client, 'error')) as [Error];
    expect(error.message).toContain('401');
  });

  test('gets nothing from an upstream that has not read its key', async () => {
    const client = opened(true, '/wrong');
    const [error] = (await once(client, 'error')) as [Error];
    expect(error.message).toContain('502');
  });

  test('is cut when it gets more than the rule lets in', async () => {
    const client = opened(false, '/flood');
    client.on('error', () => undefined);
    await once(client, 'close');
    await expect.poll(() => world.record.ends).toMatchObject([{ result: 'cut' }]);
    expect(world.record.ends[0]?.receivedBytes).toBeLessThanOrEqual(200_000);
  });
});

describe('a WebSocket that is none, or that no rule allows', () => {
  const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n';
  const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket\r\n';

  test('is told so, and reaches nobody', async () => {
    const answer = await raw(other.port, `GET / HTTP/1.1\r\nHost: other.test\r\n${upgrade}${key}\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 403 [^]*glovebox-egress: denied[^]*no WebSocket here/);
    expect(upgrades).toBe(0);
  });

  test.each([
    ['a POST', `POST / HTTP/1.1\r\nHost: allowed.test\r\n${upgrade}${key}\r\n`],
    ['one with a body', `GET / HTTP/1.1\r\nHost: allowed.test\r\n${upgrade}${key}Content-Length: 3\r\n\r\nabc`],
    ['one without a key', `GET / HTTP/1.1\r\nHost: allowed.test\r\n${upgrade}Sec-WebSocket-Version: 13\r\n\r\n`],
    ['one of another version', `GET / HTTP/1.1\r\nHost: allowed.test\r\n${upgrade}${key.replace('13', '8')}\r\n`],
    ['one with two keys', `GET / HTTP/1.1\r\nHost: allowed.test\r\n${upgrade}${key}${key}\r\n`],
    ['one for another host', `GET / HTTP/1.1\r\nHost: other.test\r\n${upgrade}${key}\r\n`],
  ])('%s is refused', async (_what, bytes) => {
    expect(await raw(plain.port, bytes)).toMatch(/^HTTP\/1\.1 4(00|21) [^]*glovebox-egress: denied/);
    expect(upgrades).toBe(0);
  });

  test('what comes behind the upgrade waits until it is answered', async () => {
    const early = `GET /never HTTP/1.1\r\nHost: allowed.test\r\n${upgrade}${key}\r\nGET /smuggled HTTP/1.1\r\nHost: other.test\r\n\r\n`;
    const answer = await raw(plain.port, early);
    expect(answer).toMatch(/^HTTP\/1\.1 401/);
    expect(answer.match(/HTTP\/1\.1/g)?.length).toBe(1);
  });
});

test('an upgrade goes to no server that is not there', async () => {
  const closed = createTcp();
  const port = await listen(closed);
  await closeServer(closed);
  const network = {
    ...world.deps.network,
    dial: (wanted: Parameters<typeof world.deps.network.dial>[0]) => world.deps.network.dial({ ...wanted, port }),
  };
  const listener = await listenerFor((inner) =>
    serveHttp(
      { inner, host: 'allowed.test', port: 80, callId: undefined, via: 'name' },
      { tls: false },
      { ...world.deps, network },
    ),
  );
  const client = new WebSocket('ws://allowed.test/', {
    createConnection: () => connect({ port: listener.port, host: '127.0.0.1' }),
  });
  const [error] = (await once(client, 'error')) as [Error];
  expect(error.message).toContain('502');
  await listener.close();
});

function opened(tls: boolean, path: string, protocols: string[] = []): WebSocket {
  const createConnection = (): Socket =>
    tls
      ? connectTls({ port: secure.port, host: '127.0.0.1', servername: 'allowed.test', ca: world.authority.pem })
      : connect({ port: plain.port, host: '127.0.0.1' });
  return new WebSocket(`${tls ? 'wss' : 'ws'}://allowed.test${path}`, protocols, { createConnection });
}
