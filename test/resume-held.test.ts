import { readdir, readFile, stat } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ApprovalRequest, Verdict } from '../src/approvals/approval.ts';
import { Network } from '../src/egress/outside/network.ts';
import { TestAuthority } from '../src/egress/tls.fixture.ts';
import { checkJournal } from '../src/journal/check.ts';
import type { Entry } from '../src/journal/entry.ts';
import { readEntries } from '../src/journal/read.ts';
import { Runner, type Run } from '../src/runner.ts';
import type { ToolCallInput } from '../src/tools/tool-call.ts';
import { Bench, smallPolicyText } from './fixtures/bench.ts';
import { Served } from './fixtures/served.ts';

/** What a run holds besides its calls, when its runner is killed or hands it over: people's answers, secrets, sessions, budgets. */
const secret = 'tok-Z9y8X7w6V5u4T3s2';
const variable = 'GLOVEBOX_TEST_RESUME_TOKEN';

let bench: Bench;
let authority: TestAuthority;
let service: Server;
let arrived: (string | undefined)[] = [];
const asked: { readonly request: ApprovalRequest; readonly answer: (verdicts: readonly Verdict[]) => void }[] = [];
const hosts = { 'api.test': ['127.0.0.1'] };

beforeAll(async () => {
  bench = await Bench.make();
  authority = new TestAuthority();
  service = createServer(authority.issue('api.test'), (request, response) => {
    arrived.push(request.headers.authorization);
    response.end('there\n');
  });
  await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve));
  process.env[variable] = secret;
});
afterAll(async () => {
  Reflect.deleteProperty(process.env, variable);
  await bench.close();
  service.closeAllConnections();
  service.close();
  authority.remove();
});

function nextRunner(): Promise<Runner> {
  return Runner.create(bench.engine, bench.dataDir, {
    network: new Network({ hosts, ca: [authority.pem] }),
    waitingAfterMs: 200,
    approver: (request) => new Promise((answer) => asked.push({ request, answer })),
  });
}

function policy(): string {
  const { port } = service.address() as AddressInfo;
  const place = `ports: [${port}], addresses: [127.0.0.1/32]`;
  return smallPolicyText(`budget: { max_actions_per_run: 20, max_actions_by_tag: { careful: 5 } }
approvals:
  categories: { dependency: { timeout: 60s } }
commands:
  - { id: ask, match: { program: curl }, effect: require_approval, category: dependency, tests: { match: [curl x] } }
  - { id: tag, match: { program: touch }, effect: allow, tags: [careful], tests: { match: [touch x] } }
  - { id: rest, match: { program: "*" }, effect: allow, tests: { match: [ls] } }
egress:
  use: [service]
  profiles:
    service:
      - { id: api, host: [api.test], path: [/repos/**], credential: gh, ${place} }
credentials:
  gh: { source: "env:${variable}", host: api.test, path: [/repos/**] }
`);
}

/** Asks its service again and again with what it was given when it began, until it is told to stop. */
function asking(): string {
  const { port } = service.address() as AddressInfo;
  return `exec python3 -u - <<'END'
import os, time, urllib.request
token = os.environ['GLOVEBOX_CREDENTIAL_GH']
while not os.path.exists('/tmp/stop'):
    request = urllib.request.Request('https://api.test:${port}/repos/a', headers={'Authorization': 'Bearer ' + token})
    try: print(urllib.request.urlopen(request, timeout=5).status)
    except Exception as error: print('not now')
    time.sleep(0.1)
print('over')
END`;
}

const careful: ToolCallInput = { tool: 'exec', argv: ['touch', 'src/careful'] };
const approved = { tool: 'exec', script: 'curl --version > /dev/null; echo once >> src/approved; echo done' } as const;

async function entriesOf(run: Run): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of readEntries(run.dir.journal)) entries.push(entry);
  return entries;
}

async function until(holds: () => boolean): Promise<void> {
  await expect.poll(holds, { timeout: 20_000, interval: 50 }).toBe(true);
}

test('a runner that is killed, and then one that hands over: programs inside notice nothing but a pause', async () => {
  const ca = [authority.pem];
  const workspace = await bench.workspace({ 'src/zero': 'zero\n' });
  const first = await Served.open({ data: bench.dataDir.path, policy: policy(), workspace, hosts, ca });
  if (first === undefined) throw new Error('it did not open');
  await first.call('asking', { tool: 'exec', script: asking(), yieldMs: 0 });
  await first.call('careful-1', careful);
  await first.call('session-1', { tool: 'exec', script: 'cd /tmp && export MARK=held', session: 'mine' });
  const waits = await first.call('approved', approved);
  expect(waits?.error?.code).toBe('waiting_for_approval');
  await until(() => arrived.length > 1);
  await first.kill();

  const kept = join(bench.dataDir.runDir(first.run).path, 'kept.json');
  expect((await stat(kept)).mode & 0o777).toBe(0o600);
  const leaked = await execa('grep', ['-rlaF', '-e', secret, bench.dataDir.path], { reject: false });
  expect(leaked.stdout).toBe('');

  const second = await nextRunner();
  const run = await second.resume(first.run);
  arrived = [];
  await until(() => arrived.length > 1);
  expect(new Set(arrived)).toEqual(new Set([`Bearer ${secret}`]));

  // Asked once more of whoever is there now, under its old id; made again, the call waits on the same request.
  await until(() => asked.length === 1);
  const reused = { code: 'call_id_reused', message: /new id/ };
  for (const id of ['approved', 'asking', 'careful-1'])
    await expect(run.call(id, { tool: 'exec', script: 'true' }), id).rejects.toMatchObject(reused);
  expect((await run.call('approved', approved)).error?.code).toBe('waiting_for_approval');
  expect(asked).toHaveLength(1);
  asked[0]?.answer([{ approve: true, by: 'ada' }]);
  await expect.poll(async () => (await run.call('approved', approved)).text, { timeout: 10_000 }).toContain('done');
  const requests = (await entriesOf(run)).filter(({ type }) => type.startsWith('approval.'));
  expect(requests.map(({ type }) => type)).toEqual(['approval.requested', 'approval.decided']);

  expect(run.remaining()).toMatchObject({ calls: 16, byTag: { careful: 4 }, approvals: expect.any(Number) });
  const session = await run.call('session-2', { tool: 'exec', script: 'pwd; echo $MARK', session: 'mine' });
  expect(session.text).toContain('/tmp\nheld\n');

  // Handed over: what waits for a call here is told, and the next one has all of it, what was taken away too.
  const poll = run.call('sleeping', { tool: 'exec', script: 'sleep 3; echo slept', yieldMs: 20_000 });
  await until(() => run.findCommand('sleeping') !== undefined);
  const [released] = await Promise.allSettled([poll, run.revokeCredential('gh').then(() => second.release())]);
  expect(released).toMatchObject({ status: 'rejected', reason: { code: 'draining' } });
  expect((await entriesOf(run)).at(-1)?.type).not.toBe('run.closed');

  const third = await nextRunner();
  const again = await third.resume(first.run);
  arrived = [];
  expect((await again.call('sleeping', { tool: 'exec', script: 'sleep 3; echo slept' })).text).toContain('slept\n');
  await again.call('stop', { tool: 'exec', script: 'echo > /tmp/stop' });
  const over = await again.poll('asking', 10_000);
  expect(over.data).toMatchObject({ state: 'ended', exitCode: 0 });
  expect(arrived, 'what was revoked stays revoked').toEqual([]);
  expect(again.remaining()).toMatchObject({ calls: 13, byTag: { careful: 4 } });
  await again.close();
  expect(
    again.candidate?.patch.bytes
      .toString()
      .split('\n')
      .filter((line) => line === '+once'),
  ).toHaveLength(1);
  expect(await readdir(again.dir.path)).not.toContain('kept.json');
  expect(await checkJournal(again.dir.journal)).toMatchObject({ verdict: 'closed', findings: [], calls: 7 });
  const types = (await entriesOf(again)).map(({ type }) => type);
  expect(types.filter((type) => type === 'run.resumed')).toHaveLength(2);
  const output = await readFile(again.dir.journal, 'utf8');
  expect(output).not.toContain(secret);
  await third.close();
});

test.each(['runc', 'runsc'] as const)(
  'under %s what a command prints meanwhile is neither lost nor doubled',
  async (runtime) => {
    const extra = runtime === 'runc' ? '' : 'runtime: runsc\n';
    const script =
      'n=0; while [ $n -lt 300 ]; do n=$((n + 1)); echo "line $n"; [ $((n % 50)) -eq 0 ] && sleep 0.3; done; exit 4';
    const workspace = await bench.workspace({ 'src/zero': 'zero\n' });
    const text = smallPolicyText(extra).replace('pids: 64', 'pids: 512');
    const first = await Served.open({ data: bench.dataDir.path, policy: text, workspace });
    if (first === undefined) throw new Error('it did not open');
    await first.call('counting', { tool: 'exec', script: `echo one >> src/zero; ${script}`, yieldMs: 0 });
    await first.call('beside', { tool: 'exec', script: 'echo here' });
    await first.kill();
    const runner = await nextRunner();
    const run = await runner.resume(first.run);
    const counted = await run.poll('counting', 20_000);
    expect(counted.data).toMatchObject({ state: 'ended', exitCode: 4 });
    const whole = Array.from({ length: 300 }, (_, n) => `line ${n + 1}\n`).join('');
    const printed = await run.call('all', { tool: 'output', callId: 'counting', offset: 0, maxBytes: 100_000 });
    expect(printed.data).toMatchObject({ content: { text: whole } });
    await run.close();
    expect(run.candidate?.patch.bytes.toString()).toContain('+one');
    expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [], calls: 2 });
    await runner.close();
  },
);
