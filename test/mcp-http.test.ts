import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Bench, smallPolicyText } from './fixtures/bench.ts';
import { Serving } from './fixtures/serving.ts';

const policy = {
  text: smallPolicyText(`approvals:
  categories: { dependency: { timeout: 60s } }
commands:
  - { id: pull, match: { program: curl }, effect: require_approval, category: dependency, tests: { match: [curl x] } }
  - { id: rest, match: { program: "*" }, effect: allow, tests: { match: [ls] } }
`).replace('write: ["src/**"]', 'write: ["**"]'),
};

let bench: Bench;
let serving: Serving;
let run: string;
let client: Client;

beforeAll(async () => {
  bench = await Bench.make();
  serving = await Serving.open(bench);
  const key = serving.key({ identity: 'ann' });
  run = await serving.open({ policy }, key);
  client = new Client({ name: 'test', version: '1' }, { versionNegotiation: { mode: 'auto' } });
  const url = new URL(`http://127.0.0.1:${serving.port}/v1/runs/${run}/mcp`);
  const requestInit = { headers: { authorization: `Bearer ${key}` } };
  await client.connect(new StreamableHTTPClientTransport(url, { requestInit }));
});
afterAll(async () => {
  await client.close();
  await serving.close();
  await bench.close();
});

test('over HTTP too, the output is told as it comes, the diff is there to read, and giving up ends the command', async () => {
  const told: string[] = [];
  const onprogress = ({ message = '' }): void => void told.push(message);
  const script = 'echo one > a.txt; echo begun; sleep 1.2; echo over';
  const done = await client.callTool({ name: 'exec', arguments: { script } }, { onprogress });
  expect(done).toMatchObject({ isError: false, structuredContent: { exitCode: 0 } });
  expect(told.join('')).toContain('begun');
  const [patch] = (await client.readResource({ uri: 'glovebox://run/patch' })).contents;
  expect(patch).toMatchObject({ text: expect.stringContaining('+one') as string });

  const giveUp = new AbortController();
  const long = client.callTool(
    { name: 'exec', arguments: { script: 'echo up; sleep 60', yieldMs: 60_000 } },
    { signal: giveUp.signal, onprogress: () => giveUp.abort() },
  );
  await expect(long).rejects.toThrow();
  const running = async (): Promise<unknown> =>
    (await client.callTool({ name: 'exec_list', arguments: {} })).structuredContent;
  await expect
    .poll(running, { timeout: 10_000 })
    .toMatchObject({ calls: [{ state: 'ended' }, { state: 'ended', exitCode: 130 }] });
});

test('what needs an approval waits for another person, and the same call made again hears of it', async () => {
  const call = { name: 'exec', arguments: { script: 'curl --version >/dev/null 2>&1; echo went on' } };
  const waits = await client.callTool(call);
  expect(waits).toMatchObject({ isError: true, structuredContent: { error: { code: 'waiting_for_approval' } } });
  const again = await client.callTool(call);
  const callIds = [waits, again].map(({ structuredContent }) => (structuredContent as { callId: string }).callId);
  expect(callIds[1]).toBe(callIds[0]);
  const { json } = await serving.ask('/v1/approvals', { key: serving.key({ identity: 'bob' }) });
  const [pending] = json['approvals'] as readonly { id: string }[];
  const decide = async (identity: string): Promise<number> => {
    const asking = { method: 'POST', body: { approve: true }, key: serving.key({ identity }) };
    return (await serving.ask(`/v1/approvals/${pending?.id}`, asking)).status;
  };
  expect(await decide('ann')).toBe(403);
  expect(await decide('bob')).toBe(200);
  await expect
    .poll(async () => JSON.stringify((await client.callTool(call)).content), { timeout: 10_000 })
    .toContain('went on');
});
