import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Bench, program, smallPolicyText } from './fixtures/bench.ts';
import { npmProgram } from './fixtures/npm-program.ts';

/** Other people's clients, from npm: what they make of `glovebox mcp`. */
let bench: Bench;
let policy: string;
let env: Record<string, string>;

beforeAll(async () => {
  bench = await Bench.make();
  policy = join(bench.folder, 'policy.yaml');
  await writeFile(policy, smallPolicyText());
  env = { PATH: process.env['PATH'] ?? '', HOME: bench.folder, GLOVEBOX_DATA: bench.dataDir.path, NO_COLOR: '1' };
});
afterAll(() => bench.close());

test('the inspector lists the tools and calls one', async (context) => {
  const inspector = await npmProgram('@modelcontextprotocol/inspector', '2.12.0', '.bin/mcp-inspector');
  if (inspector.kind === 'missing') return context.skip(inspector.why);
  const inspect = async (args: readonly string[]): Promise<unknown> => {
    const own = ['-e', `GLOVEBOX_DATA=${bench.dataDir.path}`];
    const server = [...own, process.execPath, program, 'mcp', '-q', '-p', policy];
    const ran = await execa(inspector.path, ['--cli', ...server, ...args], {
      env,
      extendEnv: false,
      reject: false,
      stdin: 'ignore',
    });
    expect(ran.exitCode, ran.stderr).toBe(0);
    return JSON.parse(ran.stdout);
  };
  const { tools } = (await inspect(['--method', 'tools/list'])) as { tools: { name: string }[] };
  expect(tools.map(({ name }) => name)).toContain('apply_patch');
  const called = await inspect([
    '--method',
    'tools/call',
    '--tool-name',
    'exec',
    '--tool-arg',
    'script=echo from inside',
  ]);
  expect(called).toMatchObject({ isError: false, content: [{ text: /^from inside\n/ }] });
}, 400_000);

/** What the test uses of the first SDK. */
interface FirstSdk {
  readonly Client: new (info: { name: string; version: string }) => {
    connect(transport: unknown): Promise<void>;
    callTool(params: { name: string; arguments: Record<string, unknown> }): Promise<unknown>;
    close(): Promise<void>;
  };
  readonly StdioClientTransport: new (server: {
    command: string;
    args: string[];
    env: Record<string, string>;
  }) => unknown;
}

test('the client of the first SDK calls a tool', async (context) => {
  const sdk = await npmProgram(
    '@modelcontextprotocol/sdk',
    '1.32.2',
    '@modelcontextprotocol/sdk/dist/esm/client/index.js',
  );
  if (sdk.kind === 'missing') return context.skip(sdk.why);
  const { Client } = (await import(sdk.path)) as Pick<FirstSdk, 'Client'>;
  const { StdioClientTransport } = (await import(join(dirname(sdk.path), 'stdio.js'))) as Pick<
    FirstSdk,
    'StdioClientTransport'
  >;
  const client = new Client({ name: 'first', version: '1' });
  await client.connect(
    new StdioClientTransport({ command: process.execPath, args: [program, 'mcp', '-q', '-p', policy], env }),
  );
  const called = await client.callTool({ name: 'exec', arguments: { script: 'echo from inside' } });
  expect(called).toMatchObject({
    isError: false,
    structuredContent: { exitCode: 0 },
    content: [{ text: /^from inside\n/ }],
  });
  await client.close();
}, 400_000);
