import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { execa } from 'execa';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { Network } from '../src/egress/outside/network.ts';
import { TestAuthority } from '../src/egress/tls.fixture.ts';
import { readEntries } from '../src/journal/read.ts';
import { Runner, type Run } from '../src/runner.ts';
import { Bench, smallPolicy } from './fixtures/bench.ts';

/** A service that knows its secret, and shows what it was sent: the worst that a service does by accident. */
const secret = 'tok-A1b2C3d4E5f6G7h8';
const variable = 'GLOVEBOX_TEST_TOKEN';

let bench: Bench;
let authority: TestAuthority;
let service: Server;
let runner: Runner;
let arrived: { readonly host: string; readonly headers: IncomingMessage['headers'] }[] = [];
let dripping: Promise<unknown> | undefined;

function answer(request: IncomingMessage, response: ServerResponse): void {
  arrived.push({ host: request.headers.host?.split(':')[0] ?? '', headers: request.headers });
  const shown = JSON.stringify(request.headers);
  const middle = shown.indexOf(secret) + 7;
  response.setHeader('X-Seen', request.headers.authorization ?? 'none');
  if (request.url === '/repos/slow') {
    const drops = setInterval(() => response.write('drop\n'), 20);
    dripping = new Promise((resolve) => response.on('close', resolve)).finally(() => clearInterval(drops));
  } else {
    response.write(shown.slice(0, middle)); // in two pieces, cut within the secret
    setTimeout(() => response.end(`${shown.slice(middle)}\n`), 20);
  }
}

beforeAll(async () => {
  bench = await Bench.make();
  authority = new TestAuthority();
  service = createServer(authority.issue('api.test', 'else.test'), answer);
  await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve));
  const hosts = { 'api.test': ['127.0.0.1'], 'else.test': ['127.0.0.1'] };
  process.env[variable] = secret;
  runner = await Runner.create(bench.engine, bench.dataDir, { network: new Network({ hosts, ca: [authority.pem] }) });
});
beforeEach(() => {
  arrived = [];
});
afterAll(async () => {
  Reflect.deleteProperty(process.env, variable);
  await runner.close();
  await bench.close();
  service.closeAllConnections();
  service.close();
  authority.remove();
});

function open(): Promise<Run> {
  const { port } = service.address() as AddressInfo;
  const place = `ports: [${port}], addresses: [127.0.0.1/32]`;
  return runner.open({
    policy: smallPolicy(`egress:
  use: [service]
  profiles:
    service:
      - { id: api, host: [api.test], path: [/repos/**], credential: gh, ${place} }
      - { id: else, host: [else.test], ${place} }
credentials:
  gh: { source: "env:${variable}", host: api.test, path: [/repos/**] }
`),
  });
}

/** A client of Python's: status, headers and body of each URL in turn. */
function asking(host: string, path: string, headers = '{}'): string {
  const { port } = service.address() as AddressInfo;
  return `python3 - <<'END'
import base64, os, urllib.request, urllib.error
token = os.environ['GLOVEBOX_CREDENTIAL_GH']
basic = lambda pair: 'Basic ' + base64.b64encode(pair.encode()).decode()
request = urllib.request.Request('https://${host}:${port}${path}', headers=${headers})
try:
    answer = urllib.request.urlopen(request, timeout=10)
    print(answer.status, dict(answer.headers), flush=True)
    while piece := answer.read1(): print(piece.decode(), end='', flush=True)
except urllib.error.HTTPError as error: print(error.code, error.read().decode())
except Exception as error: print('broken', type(error).__name__)
print('over')
END`;
}

async function printed(run: Run, id: string, script: string): Promise<string> {
  return (await run.call(id, { tool: 'exec', script })).text;
}

test('a secret goes to its service and is seen nowhere inside, nor in what a run leaves on this machine', async () => {
  const run = await open();
  const text = await printed(
    run,
    'a',
    asking('api.test', '/repos/a', "{'Authorization': 'Bearer of-an-attacker', 'Cookie': 'a=b'}"),
  );
  expect(text).toContain('200 ');
  expect(text).toContain('*'.repeat(secret.length));
  expect(arrived.map(({ headers }) => [headers.authorization, headers.cookie])).toEqual([
    [`Bearer ${secret}`, undefined],
  ]);

  const inside = await printed(
    run,
    'b',
    'env; cat /proc/[0-9]*/environ 2>/dev/null | tr "\\0" "\\n"; grep -rs tok- /tmp /home /workspace /etc',
  );
  expect(inside).toContain('GLOVEBOX_CREDENTIAL_GH=glovebox-credential-gh-');
  await run.close();
  for (const shown of [text, inside]) expect(shown).not.toContain(secret.slice(0, -2));
  const left = await execa(
    'grep',
    ['-rlaF', '-e', secret, '-e', Buffer.from(secret).toString('base64').slice(0, -4), bench.dataDir.path],
    { reject: false },
  );
  expect(left).toMatchObject({ exitCode: 1, stdout: '' });
});

test('a placeholder is the secret for its own service, within Basic too, and is refused everywhere else', async () => {
  const run = await open();
  const own = await printed(run, 'own', asking('api.test', '/repos/a', "{'Authorization': basic('x:' + token)}"));
  expect(own).toContain('200 ');
  expect(arrived[0]?.headers.authorization).toBe(`Basic ${Buffer.from(`x:${secret}`).toString('base64')}`);
  expect(own).not.toContain(Buffer.from(`x:${secret}`).toString('base64').slice(4, -6));

  for (const [id, path, headers] of [
    ['elsewhere', '/repos/a', "{'Authorization': 'Bearer ' + token}"],
    ['hidden', '/repos/a', "{'Authorization': basic('x:' + token)}"],
    ['other-header', '/', "{'X-Note': token}"],
  ] as const) {
    const refused = await printed(run, id, asking('else.test', path, headers));
    expect(refused).toMatch(/^403 /m);
    expect(refused).toContain('the placeholder of the credential gh');
  }
  await run.close();
  expect(arrived.map(({ host }) => host)).toEqual(['api.test']);
  const ends: unknown[] = [];
  for await (const entry of readEntries(run.dir.journal)) if (entry.type === 'egress.ended') ends.push(entry.data);
  const refused = {
    result: 'denied',
    reason: expect.stringContaining('the placeholder of the credential gh') as string,
  };
  expect(ends).toEqual([
    expect.objectContaining({ result: 'done', status: 200 }),
    ...Array.from({ length: 3 }, () => expect.objectContaining(refused) as unknown),
  ]);
});

test('a credential that is revoked in the middle of an answer cuts it, and is sent no more', async () => {
  const run = await open();
  await run.call('slow', { tool: 'exec', script: asking('api.test', '/repos/slow'), yieldMs: 0 });
  for (let tries = 0; tries < 100 && !(await run.poll('slow', 100)).text.includes('drop'); tries++);

  const revoked = await bench.cli(['egress', run.id, '--revoke', 'gh', '--json']);
  expect(JSON.parse(revoked.stdout)).toMatchObject({ credentials: { names: ['gh'], revoked: ['gh'] } });
  await dripping;
  for (let tries = 0; tries < 100 && !(await run.poll('slow', 100)).text.includes('over'); tries++);
  expect((await run.poll('slow', 100)).text).toContain('over');

  const before = arrived.length;
  const refused = await printed(run, 'again', asking('api.test', '/repos/a'));
  expect(refused).toMatch(/^403 /m);
  expect(refused).toContain('was revoked');
  expect(arrived).toHaveLength(before);
  await run.close();
  const types: string[] = [];
  for await (const entry of readEntries(run.dir.journal)) types.push(entry.type);
  expect(types).toContain('credential.revoked');
});
