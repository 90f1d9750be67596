import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Api } from './api.fixture.ts';

let api: Api;
let run: string;

beforeAll(async () => {
  api = await Api.open();
  run = (await api.open(api.key())).id;
});
afterAll(() => api.close());

/** The SDK's client, with a key. */
async function connect(key: string, mode: 'legacy' | 'auto' = 'auto'): Promise<Client> {
  const client = new Client({ name: 'test', version: '1' }, { versionNegotiation: { mode } });
  const fetch = (input: string | URL | Request, init?: RequestInit) => api.app.fetch(new Request(input, init));
  const url = new URL(`http://service/v1/runs/${run}/mcp`);
  const requestInit = { headers: { authorization: `Bearer ${key}` } };
  await client.connect(new StreamableHTTPClientTransport(url, { fetch, requestInit }));
  return client;
}

describe.each(['legacy', 'auto'] as const)('a client of the protocol (%s)', (mode) => {
  test('works in a run of the service, and each call is one of its key', async () => {
    const client = await connect(api.key({ identity: 'cy' }), mode);
    expect((await client.listTools()).tools.map(({ name }) => name)).toContain('exec');
    const before = api.fake.runner.get(run).made.length;
    const done = await client.callTool({ name: 'exec', arguments: { script: 'true' } });
    expect(done).toMatchObject({ isError: false, content: [{ text: 'done' }] });
    expect(api.fake.runner.get(run).made).toHaveLength(before + 1);
    const wrong = await client.callTool({ name: 'exec', arguments: { nonsense: 1 } });
    expect(wrong).toMatchObject({ isError: true, structuredContent: { error: { code: 'invalid_request' } } });
    await client.close();
  });
});

test('what is on record wants the scope to read it', async () => {
  const client = await connect(api.key({ scopes: ['call'] }));
  await expect(client.readResource({ uri: 'glovebox://run/journal' })).rejects.toThrow(/forbidden/);
  await client.close();
});

test('a quota that is used up is an answer for the model', async () => {
  const client = await connect(api.key({ identity: 'dee', quota: { callsPerMinute: 1 } }));
  const answers = [];
  for (let n = 0; n < 3; n += 1) answers.push(await client.callTool({ name: 'exec', arguments: { script: `${n}` } }));
  expect(answers.at(-1)).toMatchObject({ isError: true, content: [{ text: /^rate_limited: / }] });
  await client.close();
});

test('what is not the protocol is refused as the protocol says', async () => {
  const key = api.key();
  const path = `/v1/runs/${run}/mcp`;
  const accept = { accept: 'application/json, text/event-stream' };
  expect(
    (await api.ask(key, 'POST', path, '{"jsonrpc"', { ...accept, 'content-type': 'application/json' })).status,
  ).toBe(400);
  expect((await api.ask(key, 'POST', path, {}, { ...accept })).status).toBe(400);
  expect((await api.ask(key, 'POST', path, 'x', { 'content-type': 'text/plain' })).status).toBe(415);
  expect((await api.ask(key, 'GET', path)).status).toBe(405);
});
