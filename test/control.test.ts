import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readEntries } from '../src/journal/read.ts';
import { Runner, type Run } from '../src/runner.ts';
import { Bench, program, smallPolicy } from './fixtures/bench.ts';

let bench: Bench;
let runner: Runner;
let run: Run;

const listening = `
import http.server, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header('Content-Length', '7'); self.end_headers(); self.wfile.write(b'inside\\n')
server = http.server.ThreadingHTTPServer(('127.0.0.1', 8000), Handler)
print('ready', flush=True)
server.serve_forever()
`;

beforeAll(async () => {
  bench = await Bench.make();
  runner = await Runner.create(bench.engine, bench.dataDir);
  run = await runner.open({ policy: smallPolicy() });
  await run.call('server', { tool: 'exec', argv: ['python3', '-c', listening], yieldMs: 0 });
  await until(async () => (await run.poll('server', 100)).text.includes('ready'));
});
afterAll(async () => {
  await run.close();
  await runner.close();
  await bench.close();
});

async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 100; tries++) if (await isSo()) return;
  throw new Error('it does not come to be so');
}

test('glovebox forward reaches a port inside from the loopback of this machine, from nowhere else, until the run ends', async () => {
  const other = await runner.open({ policy: smallPolicy() });
  await other.call('server', { tool: 'exec', argv: ['python3', '-c', listening], yieldMs: 0 });
  await until(async () => (await other.poll('server', 100)).text.includes('ready'));
  const env = { GLOVEBOX_DATA: bench.dataDir.path, NO_COLOR: '1' };
  const cli = execa(process.execPath, [program, 'forward', other.id, '8000', '--on', '0', '--json'], {
    env,
    reject: false,
  });
  const [line] = (await once(cli.stdout, 'data')) as [Buffer];
  const { url, hostPort } = JSON.parse(line.toString()) as { url: string; hostPort: number };

  const answers = await Promise.all([url, `http://[::1]:${hostPort}/`].map(async (at) => (await fetch(at)).text()));
  expect(answers).toEqual(['inside\n', 'inside\n']);
  for (const address of ownAddresses()) await expect(reached(address, hostPort)).resolves.toBe(false);

  await other.close();
  const ended = await cli;
  expect(ended, ended.stderr).toMatchObject({ exitCode: 0 });
  expect(ended.stderr).toMatch(/has ended/);
  await expect(reached('127.0.0.1', hostPort)).resolves.toBe(false);
});

test('a port inside that nobody listens on is refused, and the message says so', async () => {
  await expect(run.forward(8001)).rejects.toMatchObject({ code: 'invalid_request' });
});

test('what runs inside cannot come out through a forwarded port', async () => {
  const host = createServer((socket) => socket.end('host'));
  await new Promise<void>((resolve) => host.listen(0, '127.0.0.1', resolve));
  const { port } = host.address() as AddressInfo;
  (await run.forward(8000)).destroy();
  const script = `import socket; socket.create_connection(('127.0.0.1', ${port}), 2)`;
  const result = await run.call('out', { tool: 'exec', argv: ['python3', '-c', script], yieldMs: 10_000 });
  expect(result.text).toMatch(/ConnectionRefusedError/);
  host.close();
});

test('a run can be narrowed and asked from another process, and that is on record; a closed one cannot', async () => {
  const server = createServer((socket) => socket.on('error', () => undefined).pipe(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const reaching = await runner.open({
    policy: smallPolicy(
      `egress: {upstreams: [{id: echo, host: echo.internal, port: 7, to: "127.0.0.1:${port}"}, {id: other, host: other.internal, port: 7, to: "127.0.0.1:${port}"}], use: [echo, other]}\n`,
    ),
  });
  const script = `
import socket
s = socket.create_connection(('echo.internal', 7), 5)
s.sendall(b'one'); print(s.recv(3), flush=True)
try: print('then', s.recv(1), flush=True)
except OSError as e: print('then', type(e).__name__, flush=True)
try: socket.create_connection(('echo.internal', 7), 5); print('again')
except OSError as e: print('no more', type(e).__name__, flush=True)
`;
  await reaching.call('c', { tool: 'exec', argv: ['python3', '-c', script], yieldMs: 0 });
  await until(async () => (await reaching.poll('c', 100)).text.includes("b'one'"));

  const following = bench.cli(['egress', reaching.id, '--follow', '--json']);
  const stood = await bench.cli(['egress', reaching.id, '--without', 'echo', '--json']);
  expect(stood, stood.stderr).toMatchObject({ exitCode: 0 });
  expect(JSON.parse(stood.stdout)).toMatchObject({ egress: { rules: ['other'], without: ['echo'] } });
  const wrong = await bench.cliHere(['egress', reaching.id, '--revoke', 'nothing']);
  expect(wrong).toMatchObject({ exitCode: 125, stderr: expect.stringMatching(/no credential "nothing"/) as string });

  await until(async () => (await reaching.poll('c', 100)).text.includes('no more'));
  expect((await reaching.poll('c', 100)).text).toMatch(/then (b''|ConnectionResetError)/);
  await reaching.close();
  const types: string[] = [];
  for await (const entry of readEntries(reaching.dir.journal)) types.push(entry.type);
  expect(types).toContain('egress.narrowed');
  const rows = (await bench.cliHere(['egress', reaching.id, '--json'])).stdout
    .split('\n')
    .map((row) => JSON.parse(row) as object);
  expect(rows).toContainEqual(
    expect.objectContaining({ host: 'echo.internal', decision: 'allowed', result: 'cut', sentBytes: 3 }),
  );
  expect((await following).stdout.split('\n').map((row) => JSON.parse(row) as object)).toEqual(
    expect.arrayContaining(rows),
  );
  expect((await bench.cliHere(['egress', reaching.id])).stdout).toMatch(/echo\.internal:7 .* cut /);

  const closed = await bench.cliHere(['egress', reaching.id, '--without', 'other']);
  expect(closed).toMatchObject({ exitCode: 125, stderr: expect.stringMatching(/not open on this machine/) as string });
  server.close();
});

function ownAddresses(): readonly string[] {
  return Object.values(networkInterfaces()).flatMap((list = []) =>
    list.filter(({ internal, family }) => !internal && family === 'IPv4').map(({ address }) => address),
  );
}

async function reached(address: string, port: number): Promise<boolean> {
  const socket = connect({ host: address, port, timeout: 2_000 });
  return new Promise((resolve) => {
    socket
      .on('connect', () => resolve(true))
      .on('error', () => resolve(false))
      .on('timeout', () => resolve(false));
  }).finally(() => socket.destroy()) as Promise<boolean>;
}
