import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { DockerEngine } from '../src/engine/docker/docker-engine.ts';
import type { Runtime } from '../src/engine/engine.ts';
import type { Entry } from '../src/journal/entry.ts';
import { checkJournal } from '../src/journal/check.ts';
import { readEntries } from '../src/journal/read.ts';
import { parsePolicy } from '../src/policy/policy.ts';
import { Runner, type Run } from '../src/runner.ts';
import type { ToolResult } from '../src/tools/tool-result.ts';
import { Bench, smallPolicyText } from './fixtures/bench.ts';
import { Outside } from './fixtures/outside.ts';
import { underEachRuntime } from './security/fixtures/host.ts';

/** The simplest ways out of a real sandbox, end to end: what passes, what is refused, and what is on record of it. */
const facts = await (await DockerEngine.connect()).describe();
let bench: Bench;
let outside: Outside;
let runner: Runner;
let calls = 0;

beforeAll(async () => {
  [bench, outside] = await Promise.all([Bench.make(), Outside.open()]);
  runner = await Runner.create(bench.engine, bench.dataDir, { network: outside.network() });
});

afterAll(async () => {
  await runner.close();
  await bench.close();
  await outside.close();
});

/** `a.test` is looked into, `raw.test` passed through, `plain.test` is HTTP, `db.internal` an upstream. */
function policyWith(runtime: Runtime, extra = '') {
  return parsePolicy(policyText(runtime, extra), 'test policy');
}

function policyText(runtime: Runtime, extra = '') {
  const { http, https, echo } = outside.ports;
  const own = 'addresses: [127.0.0.0/8]';
  return smallPolicyText(`runtime: ${runtime}\negress:
  use: [web, db]
${extra}  upstreams: [{ id: db, host: db.internal, port: 5432, to: "127.0.0.1:${echo}" }]
  profiles:
    web:
      - { id: api, host: [a.test], ports: [${https}], methods: [GET], path: [/ok/**], ${own} }
      - { id: raw, host: [raw.test], ports: [${https}], tls: pass_through, ${own} }
      - { id: plain, host: [plain.test], ports: [${http}], tls: none, methods: [GET], ${own} }
`);
}

async function entriesOf(run: Run): Promise<readonly Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of readEntries(run.dir.journal)) entries.push(entry);
  return entries;
}

const egressOf = (entries: readonly Entry[]): readonly Entry[] =>
  entries.filter(({ type }) => type.startsWith('egress.'));

async function sh(run: Run, script: string): Promise<ToolResult> {
  calls += 1;
  return run.call(`c${calls}`, { tool: 'exec', script });
}

/** A client that believes in what the variables say, and shows status and body. */
function fetching(url: string, how: 'by name' | 'by proxy', more = ''): string {
  const direct = how === 'by name' ? 'env -u http_proxy -u https_proxy -u HTTP_PROXY -u HTTPS_PROXY ' : '';
  return `${direct}python3 - <<'END'
import ssl, urllib.error, urllib.request
context = ssl.create_default_context()
${more}
try:
    with urllib.request.urlopen('${url}', timeout=10, context=context) as answer: print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error: print(error.code, error.read().decode())
except Exception as error: print('failed:', error)
END`;
}

const unverified = 'context.check_hostname = False; context.verify_mode = ssl.CERT_NONE';

underEachRuntime(facts, (runtime) => {
  async function inRun(extra: string, work: (run: Run) => Promise<void>): Promise<readonly Entry[]> {
    const run = await runner.open({ policy: policyWith(runtime, extra) });
    expect(run.sandbox.spec.runtime).toBe(runtime);
    try {
      await work(run);
    } finally {
      await run.close();
    }
    expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
    return entriesOf(run);
  }

  describe.each(['by name', 'by proxy'] as const)('%s', (how) => {
    let run: Run;
    let told = 0;

    beforeAll(async () => {
      run = await runner.open({ policy: policyWith(runtime) });
    });
    beforeEach(async () => {
      told = (await entriesOf(run)).length;
    });
    afterAll(async () => {
      await run.close();
      expect(run.sandbox.spec.runtime).toBe(runtime);
      expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
      expect(JSON.stringify(egressOf(await entriesOf(run)))).not.toContain('geheim'); // also of what ended later
    });

    /** What is on record since the test began. */
    const since = async (): Promise<readonly Entry[]> => (await entriesOf(run)).slice(told);

    test('TLS that is passed through reaches its host, and the journal tells it', async () => {
      const { text } = await sh(run, fetching(`https://raw.test:${outside.ports.https}/x?s=1`, how, unverified));
      expect(text).toContain('200 hello from /x?s=1');
      const ended = async () => (await since()).find((entry) => entry.type === 'egress.ended')?.data;
      await expect.poll(ended).toMatchObject({
        result: expect.stringMatching(/done|cut/) as string, // this client resets what it has read to the end
        address: '127.0.0.1',
      });
      const entries = await since();
      const decided = entries.find((entry) => entry.type === 'egress.decided' && entry.data.kind === 'connection');
      const via = how === 'by name' ? 'name' : 'proxy';
      expect(decided?.data).toMatchObject({
        host: 'raw.test',
        rule: 'raw',
        decision: 'allowed',
        via,
        callId: `c${calls}`,
      });
    });

    test.each([
      ['https', 'a.test', 'api'],
      ['http', 'plain.test', 'plain'],
    ] as const)('a request over %s is judged by itself', async (scheme, host, rule) => {
      const port = outside.ports[scheme];
      const allowed = await sh(run, fetching(`${scheme}://${host}:${port}/ok/1?token=geheim`, how));
      expect(allowed.text).toContain('200 hello from /ok/1?token=geheim');
      const more = "urllib.request.Request.get_method = lambda self: 'PUT'";
      const denied = await sh(run, fetching(`${scheme}://${host}:${port}/ok/2?token=geheim`, how, more));
      expect(denied.text).toContain('403 ');
      expect(denied.text).toContain('is for GET');
      expect(denied.data).toMatchObject({ egressDenied: [{ host, method: 'PUT', path: '/ok/2', count: 1 }] });
      const entries = await since();
      const requests = entries.flatMap((entry) =>
        entry.type === 'egress.decided' && entry.data.kind === 'request' ? [entry.data] : [],
      );
      expect(requests).toMatchObject([
        { method: 'GET', path: '/ok/1', rule, decision: 'allowed', scheme },
        { method: 'PUT', path: '/ok/2', decision: 'denied' },
      ]);
      expect(JSON.stringify(egressOf(entries))).not.toContain('geheim');
      expect(outside.arrived.filter((line) => line.startsWith('PUT'))).toEqual([]);
    });

    test('a host that no rule names is refused at once', async () => {
      const before = outside.arrived.length;
      const { text, data } = await sh(run, fetching(`https://else.test:${outside.ports.https}/`, how, unverified));
      expect(text).toMatch(how === 'by name' ? /Name or service not known/ : /403/);
      expect(text).toContain('Refused on the network by the policy of this run:');
      expect(data).toMatchObject({ egressDenied: [{ host: 'else.test', rule: 'egress.profiles' }] });
      expect((await since()).filter((entry) => entry.type === 'egress.decided')).toMatchObject([
        { data: { host: 'else.test', decision: 'denied' } },
      ]);
      expect(outside.arrived.length).toBe(before);
    });
  });

  test('beside other calls, one that uses the proxy is told what is its own, and forks have fences of their own', async () => {
    const run = await runner.open({ policy: policyWith(runtime) });
    const refused = fetching(`https://a.test:${outside.ports.https}/no`, 'by proxy');
    const [fork] = await runner.fork(run);
    try {
      await run.call('other', { tool: 'exec', script: 'sleep 30', yieldMs: 0 });
      const { data } = await run.call('asks', { tool: 'exec', script: refused });
      expect(data).toMatchObject({ egressDenied: [{ host: 'a.test', path: '/no', certain: true, count: 1 }] });
      const other = await run.call('look', { tool: 'exec_poll', callId: 'other', yieldMs: 0 });
      expect(other.data).toMatchObject({ egressDenied: [] });
      expect((await fork?.call('forked', { tool: 'exec', script: refused }))?.text).toContain('403 ');
    } finally {
      await Promise.all([run.close(), fork?.close()]);
    }
    for (const one of [run, fork ?? run]) {
      const own = (await entriesOf(one)).filter(({ type }) => type === 'egress.decided');
      expect(own).toMatchObject([{ data: { id: 1, path: '/no', callId: one === run ? 'asks' : 'forked' } }]);
    }
  });

  test('an upstream is reached by its name, and what is still connected when the run closes has its end on record', async () => {
    const entries = await inRun('', async (run) => {
      const script = 'exec 3<>/dev/tcp/db.internal/5432; echo over >&3; head -1 <&3; (sleep 60 <&3 &) ; sleep 0.1';
      const { text } = await run.call('echo', { tool: 'exec', script, descendants: 'keep' });
      expect(text).toContain('over');
    });
    expect(entries.filter(({ type }) => type === 'egress.decided' || type === 'egress.ended')).toMatchObject([
      { data: { kind: 'name', host: 'db.internal' } },
      { data: { kind: 'connection', rule: 'db', port: 5432 } },
      { data: { sentBytes: 5, receivedBytes: 5 } },
    ]);
  });

  test('a policy that observes lets through what it would have refused, and says so', async () => {
    const entries = await inRun('  observe: allowed\n  mode: observe\n', async (run) => {
      const { text } = await sh(run, 'getent hosts else.test');
      expect(text).toMatch(/127\.\d+\.\d+\.\d+ +else\.test/);
    });
    expect(entries.find((entry) => entry.type === 'egress.decided')?.data).toMatchObject({
      host: 'else.test',
      decision: 'observed',
      reason: expect.stringContaining('no profile'),
    });
  });

  test('a run that asks for too many names is stopped where its policy says so', async () => {
    const run = await runner.open({ policy: policyWith(runtime, '  dns: { max_unlisted: 5, on_excess: stop_run }\n') });
    const asked = run.call('flood', {
      tool: 'exec',
      script: 'for n in $(seq 40); do getent hosts x$n.test; done; sleep 20',
    });
    expect((await asked).data).toMatchObject({ outcome: { kind: 'cancelled' } });
    await run.close();
    await expect(run.call('late', { tool: 'exec', script: 'true' })).rejects.toThrow(/more than 5 distinct names/);
    const last = (await entriesOf(run)).at(-1);
    expect(last?.data).toMatchObject({
      outcome: 'failed',
      summary: expect.stringContaining('more than 5 distinct names'),
    });
  });

  test('who runs a command that way is told why it was cancelled', async () => {
    const file = join(bench.folder, `stop-${runtime}.yaml`);
    await writeFile(file, policyText(runtime, '  dns: { max_unlisted: 5, on_excess: stop_run }\n'));
    const script = 'for n in $(seq 40); do getent hosts x$n.test; done; sleep 20';
    const { stderr } = await bench.cliHere(['run', '-p', file, '--', 'sh', '-c', script]);
    expect(stderr).toMatch(/glovebox: cancelled: the run was stopped: .*more than 5 distinct names/);
  });

  test("what is to be trusted inside is root's, and holds the authority of the image and of the run", async () => {
    await inRun('', async (run) => {
      const script = `python3 - <<'END'
import os
bundle = os.environ['SSL_CERT_FILE']
for path in (bundle, os.path.dirname(bundle)): print(os.stat(path).st_uid, oct(os.stat(path).st_mode)[-3:])
try: open(bundle, 'a')
except PermissionError: print('not ours')
count = lambda path: open(path).read().count('BEGIN CERTIFICATE')
print(count(bundle) - count('/etc/ssl/certs/ca-certificates.crt'))
END`;
      const { text } = await sh(run, script);
      expect(text).toContain('0 444\n0 755\nnot ours\n1\n');
    });
  });
});
