import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { standardAdmission } from '../src/api/admission.ts';
import { Bench, smallPolicyText } from './fixtures/bench.ts';
import { Serving } from './fixtures/serving.ts';

/** Clients that are slow, too large, too many, or of somebody else. */

let bench: Bench;
let serving: Serving;
let run: string;
let key: string;

const limits = { headerBytes: 16_384, headersMs: 400, requestMs: 900, idleMs: 5_000, connectionsMax: 60 };
const policy = { text: smallPolicyText() };

beforeAll(async () => {
  bench = await Bench.make();
  serving = await Serving.open(bench, { limits, admission: { ...standardAdmission, streamsPerKeyMax: 4 } });
  key = serving.key();
  run = await serving.open({ policy }, key);
});
afterAll(async () => {
  await serving.close();
  await bench.close();
});

/** All that comes back until the connection ends. */
async function raw(text: string, more?: (socket: Socket) => Promise<void>): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port: serving.port });
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part));
  socket.on('error', () => undefined);
  socket.write(text);
  await more?.(socket);
  if (!socket.closed) await once(socket, 'close');
  return Buffer.concat(parts).toString();
}

const head = (more = ''): string => `POST /v1/runs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\n${more}`;

test('headers that take for ever, or a body that does, are answered 408 and cut; others are served meanwhile', async () => {
  const drip = (text: string) =>
    raw(text, async (socket) => {
      while (!socket.closed && !socket.destroyed) {
        socket.write('x');
        await sleep(50);
      }
    });
  const slow = [
    ...Array.from({ length: 10 }, () => drip('GET /v1/runs HTTP/1.1\r\nhost: x\r\nx-slow: ')),
    ...Array.from({ length: 10 }, () => drip(head('content-type: application/json\r\ncontent-length: 100000\r\n\r\n'))),
  ];
  const began = performance.now();
  expect((await serving.ask('/v1/runs', { key })).status).toBe(200);
  expect(performance.now() - began).toBeLessThan(1_000);
  for (const answer of await Promise.all(slow)) expect(answer.split('\r\n')[0]).toMatch(/^HTTP\/1\.1 408 /);
});

test('headers that are too long are answered 431, a body that is too long 413, before it has been sent', async () => {
  const long = await raw(head(`x-long: ${'x'.repeat(20_000)}\r\n\r\n`));
  expect(long).toMatch(/^HTTP\/1\.1 431 /);
  expect(long).toContain('"code":"headers_too_large"');
  const many = await raw(head(`${'a: b\r\n'.repeat(100_000)}\r\n`));
  expect(many).toMatch(/^HTTP\/1\.1 431 /);
  const large = await raw(
    head('content-type: application/json\r\ncontent-length: 999999999\r\nconnection: close\r\n\r\n'),
  );
  expect(large).toMatch(/^HTTP\/1\.1 413 /);
  expect(large).toContain('"code":"payload_too_large"');
});

test('whatever cannot be a request is answered as a problem that says why', async () => {
  for (const [request, why] of [
    ['this is no HTTP\r\n\r\n', /cannot be read as HTTP\/1.1: .*method/],
    [`BREW ${head().slice('POST '.length)}\r\n`, /cannot be read as HTTP\/1.1: .*method/],
    ['GET /v1/runs HTTP/1.1\r\nconnection: close\r\n\r\n', /its host, cannot be/],
    [head('expect: 200-maybe\r\n\r\n'), /without Expect/],
    ['CONNECT 127.0.0.1:22 HTTP/1.1\r\nhost: x\r\n\r\n', /is no proxy/],
    [head('transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nabc'), /cannot be read as HTTP\/1.1: .*Length/],
  ] as const) {
    const answer = await raw(request);
    expect(answer).toMatch(/^HTTP\/1\.1 400 [^]*\r\ncontent-type: application\/problem\+json\r\n/i);
    expect((JSON.parse(answer.split('\r\n\r\n')[1] ?? '') as { detail: string }).detail).toMatch(why);
  }
});

test('an endless body without a length is cut off at the bound, and the service does not grow', async () => {
  const before = process.memoryUsage().rss;
  const piece = `10000\r\n${' '.repeat(65_536)}\r\n`;
  const answer = await raw(
    head('content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n'),
    async (socket) => {
      for (let n = 0; n < 2_000 && !socket.destroyed; n++)
        if (!socket.write(piece))
          await Promise.race([once(socket, 'drain'), once(socket, 'close')]).catch(() => undefined);
    },
  );
  expect(answer).toMatch(/^HTTP\/1\.1 413 /);
  expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024);
});

test('a body of somebody without a key is not read', async () => {
  const answer = await raw(
    'PUT /v1/runs/x/calls/y HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\nconnection: close\r\n\r\n',
  );
  expect(answer).toMatch(/^HTTP\/1\.1 401 /);
});

test('more streams of one key than there may be are refused with a time to come back; an idle one costs others nothing', async () => {
  const follow = () => serving.begin('/v1/events', { key });
  const streams = await Promise.all([follow(), follow(), follow(), follow()]);
  const refused = await serving.ask('/v1/events', { key });
  expect(refused.status).toBe(429);
  expect(refused.headers['retry-after']).toBe('1');
  const socket = new WebSocket(`ws://127.0.0.1:${serving.port}/v1/runs/${run}/ports/80`, {
    headers: { authorization: `Bearer ${key}` },
  });
  const [, answer] = (await once(socket, 'unexpected-response')) as [unknown, { statusCode: number }];
  expect(answer.statusCode).toBe(429);
  expect((await serving.ask(`/v1/runs/${run}`, { key })).status).toBe(200);
  for (const stream of streams) stream.destroy();
  await expect.poll(async () => (await follow()).destroy().statusCode).toBe(200);
});

test('more connections than there may be are closed at once, and the next one is served when some have left', async () => {
  const open = Array.from({ length: 100 }, () => connect({ host: '127.0.0.1', port: serving.port }));
  for (const socket of open) socket.on('error', () => undefined);
  await expect.poll(() => open.filter(({ closed }) => closed).length).toBeGreaterThanOrEqual(40);
  for (const socket of open) socket.destroy();
  await expect.poll(async () => (await serving.ask('/v1/runs', { key })).status).toBe(200);
});

test('one team reaches nothing of another, and is not slowed by its calls', async () => {
  const blue = serving.key({ team: 'blue', identity: 'bob' });
  const other = await serving.open({ policy }, blue);
  const busy = Array.from({ length: 4 }, (_, n) =>
    serving.call(run, `busy-${n}`, { tool: 'exec', script: 'sleep 1' }, key),
  );
  const began = performance.now();
  expect((await serving.call(other, 'c1', { tool: 'exec', script: 'echo mine' }, blue)).json).toMatchObject({
    ok: true,
  });
  expect(performance.now() - began).toBeLessThan(900);
  for (const path of ['', '/diff', '/journal', '/calls/busy-0', '/files/src', '/egress'])
    expect((await serving.ask(`/v1/runs/${run}${path}`, { key: blue })).json).toMatchObject({ code: 'run_not_found' });
  const { runs } = (await serving.ask('/v1/runs', { key: blue })).json as { runs: { id: string }[] };
  expect(runs.map(({ id }) => id)).toEqual([other]);
  await Promise.all(busy);
});
