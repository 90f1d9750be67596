import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { expect, test } from 'vitest';
import { PretendedRun } from '../run/delegated-run.fixture.ts';
import { McpRun } from './mcp-run.ts';
import { McpHttp } from './serve.ts';

async function within(run: PretendedRun, work: (client: Client) => Promise<void>): Promise<void> {
  const http = new McpHttp(new McpRun(async () => run, { version: '1' }));
  const client = new Client({ name: 'x', version: '1' });
  const fetch = (input: string | URL | Request, init?: RequestInit) => http.fetch(new Request(input, init));
  await client.connect(new StreamableHTTPClientTransport(new URL('http://127.0.0.1/mcp'), { fetch }));
  try {
    await work(client);
  } finally {
    await http.close();
    await client.close();
  }
}

test('where the policy asks what the agent believes, there is a tool to say it, which makes no call', async () => {
  const run = new PretendedRun({ asksContext: true });
  await within(run, async (client) => {
    const tool = (await client.listTools()).tools.find(({ name }) => name === 'attach_context');
    expect(tool?.inputSchema).toMatchObject({ required: ['version', 'summary'], additionalProperties: false });
    const done = await client.callTool({ name: 'attach_context', arguments: { version: 1, summary: 'so it is' } });
    expect(done).toMatchObject({ isError: false, structuredContent: { ok: true, number: 1 } });
    expect(run.contexts).toMatchObject([{ summary: 'so it is', at: 'other' }]);
    const wrong = await client.callTool({ name: 'attach_context', arguments: { summary: 'x', tool: 'exec' } });
    expect(wrong).toMatchObject({ isError: true, structuredContent: { error: { code: 'invalid_request' } } });
    expect(run.calls).toEqual([]);
  });
});

test('elsewhere it is not offered, and not answered', async () => {
  const run = new PretendedRun();
  await within(run, async (client) => {
    expect((await client.listTools()).tools.map(({ name }) => name)).not.toContain('attach_context');
    await expect(client.callTool({ name: 'attach_context', arguments: { version: 1, summary: 'x' } })).rejects.toThrow(
      /no tool/,
    );
    expect(run.contexts).toEqual([]);
  });
});
