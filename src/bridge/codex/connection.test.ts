import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PretendedRun } from '../../run/delegated-run.fixture.ts';
import { CodexClient } from './codex-client.fixture.ts';
import { Paths } from './paths.ts';
import { CodexEnvironment } from './serve.ts';

function environmentOf(run = new PretendedRun()): CodexEnvironment {
  return new CodexEnvironment(async () => run, ['/home/ada/project']);
}

async function connected(run?: PretendedRun): Promise<CodexClient> {
  const client = new CodexClient(environmentOf(run));
  await client.initialize();
  return client;
}

const start = (processId: string): Record<string, unknown> => ({ processId, argv: ['true'], cwd: 'file:///workspace' });

describe('a connection goes on after', () => {
  test.each([
    ['what is not JSON', '{"id"', -1, -32700],
    ['a number', '7', -1, -32600],
    ['a batch', '[{"id":5,"method":"environment/info"}]', -1, -32600],
    ['an id that is none', '{"id":{},"method":"environment/info"}', -1, -32600],
    ['an unknown method', '{"id":5,"method":"http/request","params":{}}', 5, -32601],
    ['an unknown file method', '{"id":5,"method":"fs/explode","params":{}}', 5, -32601],
    ['what every object has', '{"id":5,"method":"fs/constructor","params":{}}', 5, -32601],
    ['an unexpected notification', '{"method":"exit"}', -1, -32600],
    ['parameters that are none', '{"id":5,"method":"process/start","params":7}', 5, -32602],
    ['no parameters', '{"id":5,"method":"fs/readFile"}', 5, -32602],
    ['a path that is none', '{"id":5,"method":"fs/readFile","params":{"path":"http://x/y"}}', 5, -32602],
    ['a relative path', '{"id":5,"method":"fs/readFile","params":{"path":"../x"}}', 5, -32602],
    ['an encoded slash', '{"id":5,"method":"fs/readFile","params":{"path":"file:///a%2fb"}}', 5, -32602],
    ['another host', '{"id":5,"method":"fs/readFile","params":{"path":"file://host/a"}}', 5, -32602],
    ['a second initialize', '{"id":5,"method":"initialize","params":{"clientName":"x"}}', 5, -32600],
    ['a process that is not there', '{"id":5,"method":"process/read","params":{"processId":"x"}}', 5, -32600],
  ])('%s', async (_, line, id, code) => {
    const client = await connected();
    client.send(line);
    await expect
      .poll(() => client.told.find((told) => told.id === id && told.error !== undefined)?.error?.code)
      .toBe(code);
    expect(await client.request('environment/info', {})).toMatchObject({ shell: { name: 'bash' } });
    await client.close();
  });

  test('any bytes at all, and any parameters', async () => {
    const run = new PretendedRun();
    const client = await connected(run);
    const methods = [
      'process/start',
      'process/read',
      'process/write',
      'process/terminate',
      'fs/readFile',
      'fs/copy',
      'fs/open',
    ];
    const params = fc.oneof(
      fc.jsonValue(),
      fc.record({
        processId: fc.string(),
        path: fc.string(),
        handleId: fc.string(),
        argv: fc.array(fc.string()),
        cwd: fc.string(),
      }),
    );
    const message = fc.record({ id: fc.nat(50), method: fc.constantFrom(...methods), params });
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.string(),
          message.map((value) => JSON.stringify(value)),
        ),
        async (line) => {
          client.send(line);
        },
      ),
      { numRuns: 300 },
    );
    expect(await client.ask('environment/info', {}, 'after')).toMatchObject({ result: { platformOs: 'linux' } });
    await client.close();
  });
});

test('nothing is done before initialize and initialized', async () => {
  const run = new PretendedRun();
  const client = new CodexClient(environmentOf(run));
  expect(await client.ask('process/start', start('p1'))).toMatchObject({ error: { code: -32600 } });
  await client.request('initialize', { clientName: 'x' });
  expect(await client.ask('process/start', start('p1'))).toMatchObject({ error: { code: -32600 } });
  expect(run.calls.filter(({ input }) => input.tool === 'exec')).toEqual([]);
  await client.close();
});

test('an id in use is refused, and so is one request too many', async () => {
  const run = new PretendedRun({ atOnce: false });
  const environment = environmentOf(run);
  const client = new CodexClient(environment);
  client.send({ id: 'i', method: 'initialize', params: { clientName: 'x' } });
  await expect.poll(() => run.calls.length).toBe(1); // it looks for a shell, and waits
  client.send({ id: 'i', method: 'environment/info', params: {} });
  await expect.poll(() => client.told[0]).toMatchObject({ id: 'i', error: { code: -32600 } });
  for (const { callId } of run.calls) await run.cancel(callId);
  await expect.poll(() => client.told[1]).toMatchObject({ id: 'i', result: {} });
  client.send({ method: 'initialized' });
  for (let id = 0; id < 500; id += 1) client.send({ id, method: 'process/start', params: start(`p${id}`) });
  await expect.poll(() => client.told.filter(({ error }) => error?.code === -32000).length).toBe(500 - 64);
  await client.close();
});

test('a process id is taken once, whatever became of it', async () => {
  const client = await connected();
  await client.request('process/start', start('p1'));
  await expect.poll(() => client.of('p1').closed).toBe(true);
  expect(await client.ask('process/start', start('p1'))).toMatchObject({ error: { code: -32600 } });
  expect(await client.ask('process/start', start('../p'))).toMatchObject({ error: { code: -32602 } });
  expect(await client.request('process/terminate', { processId: 'p1' })).toEqual({ running: false });
  expect(await client.request('process/write', { processId: 'p9', chunk: '' })).toEqual({ status: 'unknownProcess' });
  await client.close();
});

test('what it says of its own sandbox changes nothing, and is passed on to be recorded', async () => {
  const run = new PretendedRun();
  const client = await connected(run);
  const sandbox = { permissions: { type: 'disabled' } };
  await client.request('process/start', { ...start('p1'), sandbox, enforceManagedNetwork: true });
  await client.request('fs/createDirectory', { path: 'file:///home/ada/project/x', sandbox });
  expect(run.calls.filter(({ claims }) => claims?.includes('"type":"disabled"'))).toHaveLength(2);
  const [, started, made] = run.calls;
  expect(started?.input).not.toHaveProperty('sandbox');
  expect(made?.input).toEqual({ tool: 'mkdir', path: '/workspace/x', parents: true });
  await client.close();
});

test('a session goes on over another connection, and the old one is told no more', async () => {
  const environment = environmentOf();
  const first = new CodexClient(environment);
  const session = await first.initialize();
  const second = new CodexClient(environment);
  expect(await second.initialize(session)).toBe(session);
  expect(await first.ask('process/start', start('p1'))).toMatchObject({ error: { message: /resumed by another/ } });
  await second.request('process/start', start('p2'));
  await expect.poll(() => second.of('p2').closed).toBe(true);
  expect(first.of('p2').closed).toBe(false);
  const third = new CodexClient(environment);
  expect(await third.ask('initialize', { clientName: 'x', resumeSessionId: 'nobody' })).toMatchObject({
    error: { code: -32600 },
  });
  for (const client of [first, second, third]) await client.close();
});

describe('paths', () => {
  const paths = new Paths(['/home/ada/project']);
  test.each([
    ['file:///home/ada/project', '/workspace'],
    ['file:///home/ada/project/a%20b', '/workspace/a b'],
    ['/home/ada/project/../project/x/', '/workspace/x'],
    ['file:///home/ada/project2/x', '/home/ada/project2/x'],
    ['file:///home/ada/project/../../secret', '/home/secret'],
    ['file:///workspace/x', '/workspace/x'],
    ['file:///tmp/x', '/tmp/x'],
  ])('%s is %s inside', (path, inside) => {
    expect(paths.inside(path)).toBe(inside);
  });

  test.each([
    ['file:///.git', true],
    ['file:///home/.git', true],
    ['file:///home/ada/.git', true],
    ['file:///home/ada/project/.git', false],
    ['file:///home/ada/project', false],
    ['file:///home/bob/.git', false],
    ['file:///tmp/x', false],
  ])('%s is above the workspace: %s', (path, above) => {
    expect(paths.isAbove(path)).toBe(above);
  });

  test('what comes back is spelled as it was asked for', () => {
    expect(paths.outside('/workspace/a b', 'file:///home/ada/project/x')).toBe('file:///home/ada/project/a%20b');
    expect(paths.outside('/workspace/a', 'file:///workspace/x')).toBe('file:///workspace/a');
    expect(paths.outside('/tmp/a', 'file:///home/ada/project/x')).toBe('file:///tmp/a');
  });
});
