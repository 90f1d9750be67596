import * as http from 'node:http';
import * as https from 'node:https';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ruleWith } from '../checkpoint/judge.fixture.ts';
import { closeServer, listen, listenerFor, worldOf, type Listener, type World } from './http.fixture.ts';
import { serveProxy } from './http-proxy.ts';
import { serveHttp } from './http.ts';

/** A client that sends what it has to say and its end (`nc -N`), and one that only seems to. */
const request = 'GET /a HTTP/1.1\r\nHost: allowed.test\r\n\r\n';
const halfClosedMs = 150;
/** Who is to be answered is, however busy the machine is. */
const patientMs = 10_000;
/** Of connections that are opened from here on. */
const waits = { halfClosedMs };

let world: World;
let upstream: http.Server;
let secureUpstream: https.Server;
let plain: Listener;
let secure: Listener;
let proxy: Listener;
const behaviour = { answer: (_: http.IncomingMessage, response: http.ServerResponse): unknown => response.end('ok') };

beforeAll(async () => {
  const answer = (asked: http.IncomingMessage, response: http.ServerResponse): void =>
    void behaviour.answer(asked, response);
  upstream = http.createServer(answer);
  const ports: Record<number, number> = { 80: await listen(upstream) };
  world = await worldOf([ruleWith({ methods: ['GET', 'POST'], ports: [80, 443] })], ports);
  const context = world.upstreamAuthority.contextOf('allowed.test');
  secureUpstream = https.createServer({ SNICallback: (_name, done) => done(null, context) }, answer);
  ports[443] = await listen(secureUpstream);
  const deps = { ...world.deps, limits: waits };
  const conversation = { host: 'allowed.test', callId: undefined, via: 'name' } as const;
  plain = await listenerFor((inner) => serveHttp({ ...conversation, port: 80, inner }, { tls: false }, deps));
  secure = await listenerFor((inner) => serveHttp({ ...conversation, port: 443, inner }, { tls: true }, deps));
  const { checkpoint } = world;
  proxy = await listenerFor((inner) =>
    serveProxy(inner, () => undefined, { checkpoint, carry: () => Promise.resolve(), http: deps }),
  );
});

afterAll(async () => {
  await Promise.all([plain.close(), secure.close(), proxy.close(), closeServer(upstream), closeServer(secureUpstream)]);
});

beforeEach(() => {
  world.record.ends.length = 0;
  world.record.decisions.length = 0;
  waits.halfClosedMs = halfClosedMs;
  behaviour.answer = (_, response) => setTimeout(() => response.end('ok'), 20);
});

/** All that comes back after the last of `text`, until the other side has ended it too. */
function askedAndEnded(socket: Socket, text: string): Promise<string> {
  return new Promise((resolve) => {
    let said = '';
    socket.on('data', (chunk: Buffer) => (said += chunk.toString('latin1')));
    socket.on('error', () => undefined);
    socket.once('close', () => resolve(said));
    socket.end(text);
  });
}

const to = ({ port }: Listener): Socket => connect({ port, host: '127.0.0.1', allowHalfOpen: true });
const overTls = (): Socket => connectTls({ socket: to(secure), servername: 'allowed.test', ca: world.authority.pem });

describe('who has asked and says no more', () => {
  test.each<[string, () => Socket, string]>([
    ['over plain HTTP', () => to(plain), request],
    ['over TLS', overTls, request],
    ['through the proxy', () => to(proxy), request.replace('/a', 'http://allowed.test/a')],
  ])('gets the answer, %s', async (_, opened, text) => {
    waits.halfClosedMs = patientMs;
    expect(await askedAndEnded(opened(), text)).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*ok/);
    await expect.poll(() => world.record.ends).toMatchObject([{ result: 'done', status: 200 }]);
  });

  test('gets all of them, of what it has asked for at once', async () => {
    waits.halfClosedMs = patientMs;
    const said = await askedAndEnded(to(plain), request + request.replace('/a', '/../b') + request);
    expect([...said.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual(['200', '400', '200']);
  });

  test('gets an answer that takes longer than the wait for each part of it', async () => {
    behaviour.answer = async (_, response) => {
      for (let part = 0; part < 10; part++) {
        response.write(`part ${part} `);
        await new Promise((resolve) => setTimeout(resolve, halfClosedMs / 3));
      }
      response.end('all');
    };
    expect(await askedAndEnded(to(plain), request)).toContain('all');
  });

  test('in the middle of a body has asked nothing', async () => {
    const begun = 'POST /a HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 10\r\n\r\nhalf';
    expect(await askedAndEnded(to(plain), begun)).not.toContain('200');
    await expect.poll(() => world.record.ends.map(({ result }) => result)).toEqual(['cut']);
  });
});

describe('who only seems to wait', () => {
  test.each([
    ['before anything of the answer came', ''],
    ['in the middle of the answer', 'first'],
  ])('has gone %s: it is fetched no longer', async (_, begun) => {
    let closed = false;
    behaviour.answer = (asked, response) => {
      if (begun !== '') response.write(begun);
      asked.socket.once('close', () => (closed = true));
    };
    const socket = to(plain);
    socket.write(request);
    if (begun === '') await expect.poll(() => world.record.decisions).toHaveLength(1);
    else await new Promise((resolve) => socket.once('data', resolve));
    socket.destroy();
    await expect.poll(() => closed).toBe(true);
    await expect.poll(() => world.record.ends).toMatchObject([{ result: 'cut' }]);
  });
});
