import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { describe, expect, test } from 'vitest';
import { PretendedRun } from '../run/delegated-run.fixture.ts';
import { McpRun } from './mcp-run.ts';
import { McpHttp } from './serve.ts';

const url = new URL('http://127.0.0.1/v1/runs/x/mcp');

describe.each(['legacy', 'auto'] as const)('over HTTP, a client of the protocol (%s)', (mode) => {
  test('calls tools without a session; where a request is a connection of its own, giving it up cancels the call', async () => {
    const run = new PretendedRun({ atOnce: false });
    const http = new McpHttp(new McpRun(async () => run, { version: '1' }));
    const client = new Client({ name: 'x', version: '1' }, { versionNegotiation: { mode } });
    const fetch = (input: string | URL | Request, init?: RequestInit) => http.fetch(new Request(input, init));
    await client.connect(new StreamableHTTPClientTransport(url, { fetch }));
    expect((await client.listTools()).tools.length).toBeGreaterThan(20);
    const giveUp = new AbortController();
    const long = client.callTool({ name: 'exec', arguments: { script: 'sleep 60' } }, { signal: giveUp.signal });
    await expect.poll(() => run.calls.length).toBe(1);
    giveUp.abort();
    await expect(long).rejects.toThrow();
    if (mode === 'auto') await expect.poll(() => run.cancelled.length).toBeGreaterThan(0);
    await http.close();
    await http.close();
    await client.close();
  });
});

test('a request that is too large, or no JSON, is refused before anything is made of it', async () => {
  const http = new McpHttp(new McpRun(async () => new PretendedRun(), { version: '1' }));
  const post = (body: string, type = 'application/json') => {
    const headers = { 'content-type': type, accept: 'application/json, text/event-stream' };
    return http.fetch(new Request(url, { method: 'POST', headers, body }));
  };
  expect((await post('x'.repeat(33 * 1024 * 1024))).status).toBe(413);
  expect((await post('{"jsonrpc"')).status).toBe(400);
  expect((await post('{}', 'text/plain')).status).toBe(415);
  expect((await http.fetch(new Request(url))).status).toBe(405);
  await http.close();
});
