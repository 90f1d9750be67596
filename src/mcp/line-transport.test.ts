import { PassThrough } from 'node:stream';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PretendedRun } from '../run/delegated-run.fixture.ts';
import { McpRun } from './mcp-run.ts';
import { serveMcpLines } from './serve.ts';

interface Reply {
  readonly id?: string | number | null;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly code: number; readonly message: string };
}

/** One connection, as a client that writes whatever it likes. */
class Peer {
  readonly input = new PassThrough();
  readonly output = new PassThrough();
  readonly run: PretendedRun;
  readonly ended: Promise<void>;
  readonly replies: Reply[] = [];
  #rest = '';

  constructor(run = new PretendedRun()) {
    this.run = run;
    this.ended = serveMcpLines(new McpRun(async () => run, { version: '1' }), this.input, this.output);
    this.output.on('data', (chunk: Buffer) => {
      const lines = (this.#rest + chunk.toString('utf8')).split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) this.replies.push(JSON.parse(line) as Reply);
    });
  }

  send(value: unknown): void {
    this.input.write(`${typeof value === 'string' ? value : JSON.stringify(value)}\n`);
  }

  async initialize(): Promise<void> {
    const params = { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'x', version: '1' } };
    this.send({ jsonrpc: '2.0', id: 'first', method: 'initialize', params });
    await this.reply('first');
    this.send({ jsonrpc: '2.0', method: 'notifications/initialized' });
  }

  call(id: number, script: string): void {
    const params = { name: 'exec', arguments: { script } };
    this.send({ jsonrpc: '2.0', id, method: 'tools/call', params });
  }

  async reply(id: string | number | null): Promise<Reply> {
    await expect.poll(() => this.replies.some((reply) => reply.id === id)).toBe(true);
    return this.replies.find((reply) => reply.id === id) ?? {};
  }

  async close(): Promise<void> {
    this.input.end();
    await this.ended;
  }
}

describe('a connection goes on after', () => {
  test.each([
    ['what is not JSON', '{"jsonrpc"', -32700, /not JSON/],
    ['what is no message', '{"jsonrpc":"2.0","id":7}', -32600, /not a message/],
    ['a batch', '[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, /batches are not taken/],
    ['a number', '7', -32600, /not a message/],
    ['an unknown method', '{"jsonrpc":"2.0","id":1,"method":"tools/explode"}', -32601, /not found/i],
    [
      'a tool that is not there',
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}',
      -32602,
      /no tool x/,
    ],
    [
      'arguments that are none',
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"exec","arguments":7}}',
      -32602,
      /./,
    ],
  ])('%s', async (_, line, code, message) => {
    const peer = new Peer();
    await peer.initialize();
    peer.send(line);
    await expect
      .poll(() => peer.replies.at(-1)?.error)
      .toMatchObject({ code, message: expect.stringMatching(message) as string });
    peer.call(2, 'true');
    expect(await peer.reply(2)).toMatchObject({ result: { isError: false } });
    await peer.close();
  });

  test('a line that never ends, and it is not kept', async () => {
    const peer = new Peer();
    await peer.initialize();
    const piece = Buffer.alloc(1 << 20, 'x');
    for (let sent = 0; sent < 40; sent += 1)
      if (!peer.input.write(piece)) await new Promise((resolve) => peer.input.once('drain', resolve));
    peer.send('');
    expect(await peer.reply(null)).toMatchObject({
      error: { code: -32600, message: expect.stringMatching(/longer than/) as string },
    });
    peer.call(2, 'true');
    expect(await peer.reply(2)).toMatchObject({ result: { isError: false } });
    await peer.close();
  });

  test('any bytes at all', async () => {
    const peer = new Peer();
    await peer.initialize();
    const message = fc.record(
      {
        jsonrpc: fc.constantFrom('2.0', '1.0', 2),
        id: fc.oneof(fc.string(), fc.integer(), fc.constant(null)),
        method: fc.constantFrom(
          'tools/call',
          'tools/list',
          'resources/read',
          'ping',
          'initialize',
          'server/discover',
          'x',
        ),
        params: fc.jsonValue(),
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.string(),
          fc.json(),
          message.map((value) => JSON.stringify(value)),
        ),
        async (line) => {
          peer.send(line);
        },
      ),
      { numRuns: 300 },
    );
    peer.call(424_242, 'true');
    expect(await peer.reply(424_242)).toMatchObject({ result: { isError: false } });
    await peer.close();
  });
});

test('an id that is in use is not taken twice, and a flood is told to wait', async () => {
  const peer = new Peer(new PretendedRun({ atOnce: false }));
  await peer.initialize();
  peer.call(1, 'sleep 1');
  await expect.poll(() => peer.run.calls.length).toBe(1);
  peer.call(1, 'sleep 2');
  expect(await peer.reply(1)).toMatchObject({ error: { code: -32600, message: 'the id 1 is in use' } });
  for (let id = 2; id < 500; id += 1) peer.call(id, 'sleep 1');
  await expect.poll(() => peer.replies.filter(({ error }) => error?.code === -32000).length).toBe(498 - 63);
  expect(peer.run.calls).toHaveLength(64);
  await peer.close();
});

test('cancelling again and again starts no more calls than are answered at a time', async () => {
  const run = new PretendedRun({ atOnce: false });
  run.cancel = async () => undefined; // a command that takes its time to die
  const peer = new Peer(run);
  await peer.initialize();
  for (let id = 2; id < 300; id += 1) {
    peer.call(id, 'sleep 1');
    peer.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id } });
  }
  peer.send({ jsonrpc: '2.0', id: 'last', method: 'tools/list' });
  await peer.reply('last');
  expect(run.calls.length).toBeLessThanOrEqual(64);
  await peer.close();
});

test('a client that goes away has what it waited for cancelled', async () => {
  const peer = new Peer(new PretendedRun({ atOnce: false }));
  await peer.initialize();
  peer.call(2, 'sleep 60');
  await expect.poll(() => peer.run.calls.length).toBe(1);
  await peer.close();
  await expect.poll(() => peer.run.cancelled).toContain(peer.run.calls[0]?.callId);
});

test('a client may name its calls: the same name is the same call', async () => {
  const peer = new Peer();
  await peer.initialize();
  const params = { name: 'exec', arguments: { script: 'true' }, _meta: { 'glovebox/callId': 'mine-1' } };
  peer.send({ jsonrpc: '2.0', id: 2, method: 'tools/call', params });
  await peer.reply(2);
  expect(peer.run.calls[0]?.callId).toBe('mine-1');
  peer.send({
    jsonrpc: '2.0',
    id: 3,
    method: 'tools/call',
    params: { ...params, _meta: { 'glovebox/callId': '../x' } },
  });
  expect(await peer.reply(3)).toMatchObject({ error: { code: -32602 } });
  await peer.close();
});
