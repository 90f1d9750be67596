import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GloveboxClient, type RemoteRun, type RunView } from '../src/client/client.ts';
import type { Reask } from '../src/client/requests.ts';
import { DiffView } from '../src/contract/diff-view.ts';
import { RunView as RunViewSchema } from '../src/contract/run-view.ts';
import { checkJournal } from '../src/journal/check.ts';
import { embed } from '../src/api/embed.ts';
import { openService } from '../src/service/open-service.ts';
import { ToolResult } from '../src/tools/tool-result.ts';
import { Bench, smallPolicyText } from './fixtures/bench.ts';
import { CutProxy } from './fixtures/cut-proxy.ts';
import { Serving } from './fixtures/serving.ts';

const policy = { text: smallPolicyText() };
const asking = {
  text: smallPolicyText(`approvals:
  categories: { touching: { timeout: 30s } }
commands:
  - { id: touch, match: { program: touch }, effect: require_approval, category: touching, tests: { match: [touch x] } }
  - { id: rest, match: { program: "*" }, effect: allow, tests: { match: [ls] } }
`),
};

let bench: Bench;
let other: Bench;
let serving: Serving;
let embedded: GloveboxClient;
let workspace: string;

beforeAll(async () => {
  bench = await Bench.make();
  other = await Bench.make();
  serving = await Serving.open(bench, { trustLocalIdentities: true });
  embedded = GloveboxClient.within(embed(await openService({ engine: other.engine, dataDir: other.dataDir })));
  workspace = await bench.workspace({ 'src/a.txt': 'one\n', 'README.md': 'read me\n' });
});
afterAll(async () => {
  await embedded.close();
  await serving.close();
  await other.close();
  await bench.close();
});

const remote = (): Promise<GloveboxClient> => GloveboxClient.connect({ socketPath: serving.socket });
const byPort = (): Promise<GloveboxClient> =>
  GloveboxClient.connect({ url: `http://127.0.0.1:${serving.port}`, key: serving.key() });

describe.each([
  ['over a unix socket', remote],
  ['over a port, with a key', byPort],
  ['in this process', async () => embedded],
])('%s', (where, connect) => {
  // A key names no directory of the machine.
  const request = () => ({ policy, ...(where.includes('key') ? {} : { workspace }), intent: 'a test' });

  test('a key is made, is listed, and holds until it is revoked', async () => {
    const client = await connect();
    const draft = { team: 'red', identity: 'ann', policies: [], expiresAt: null };
    const { key, secret } = await client.keys.create({ ...draft, scopes: ['read'] });
    expect(secret).toMatch(/^gbx_/);
    expect(await client.keys.list()).toContainEqual(key);
    expect((await client.keys.revoke(key.id)).revokedAt).not.toBeNull();
    expect((await client.keys.list()).find(({ id }) => id === key.id)?.revokedAt).not.toBeNull();
    await expect(client.keys.revoke(draft.team.padEnd(26, '0'))).rejects.toMatchObject({ code: 'not_found' });
  });

  test('a run goes from open to its diff', async () => {
    const client = await connect();
    const run = await client.runs.open({ ...request(), name: 'story' });
    expect(RunViewSchema.parse(await run.view())).toMatchObject({ name: 'story', state: 'open', policy: 'text:small' });
    const chunks = { stdout: '', stderr: '' };
    const onOutput = (bytes: Uint8Array, stream: 'stdout' | 'stderr'): void => {
      chunks[stream] += Buffer.from(bytes).toString();
    };
    const script = 'mkdir -p src; echo out; echo err >&2; sleep 0.2; echo more; exit 3';
    const result = await run.exec(script, { onOutput });
    expect(ToolResult.parse(result)).toMatchObject({ ok: false, data: { exitCode: 3 } });
    expect(chunks).toEqual({ stdout: 'out\nmore\n', stderr: 'err\n' });

    expect((await run.write('src/b.txt', 'two\n')).data?.entry.sizeBytes).toBe(4);
    expect((await run.edit('src/b.txt', 'two', 'three')).ok).toBe(true);
    expect((await run.read('src/b.txt')).data?.content.text).toBe('three\n');
    expect((await run.read('src/nothing.txt')).error?.code).toBe('not_found');
    expect((await run.grep('thr', { path: 'src' })).data?.matchCount).toBe(1);
    expect((await run.glob('*.txt')).data?.entries.map(({ path }) => path)).toContain('src/b.txt');
    expect((await run.tools()).map(({ name }) => name)).toContain('apply_patch');
    expect((await run.budget()).calls).toBeLessThan(50);

    const diff = DiffView.parse(await run.diff());
    expect(diff.changes.at(-1)).toMatchObject({ path: 'src/b.txt', status: 'added', added: 1 });
    expect((await run.close({ summary: 'done' })).outcome).toBe('finished');
    expect((await run.patch()).toString()).toContain('+three');
    const seen = [];
    for await (const entry of run.journal()) seen.push(entry.type);
    expect(seen.at(-1)).toBe('run.closed');
    expect((await run.entries()).map(({ type }) => type)).toEqual(seen);
    const listed = await client.runs.list({ name: 'story', limit: 1 });
    expect(listed.runs.map(({ id }) => id)).toEqual([run.id]);
  });

  test('a terminal and a port inside carry bytes both ways', async () => {
    const client = await connect();
    const run = await client.runs.open(request());
    const { command, ended } = await run.start(['sh', '-c', 'read a; echo "got $a"; stty size; exit 4'], {
      tty: { columns: 77, rows: 11 },
    });
    const terminal = await command.terminal();
    terminal.write('hello\n');
    let shown = '';
    for await (const bytes of terminal) shown += String(bytes);
    expect(shown).toMatch(/got hello\r\n11 77/);
    expect((await ended).data?.exitCode).toBe(4);

    const server =
      'import socket\ns=socket.create_server(("127.0.0.1",7000))\nprint("up",flush=True)\nc,_=s.accept()\nc.sendall(c.recv(9)[::-1])\nc.close()';
    const echo = await run.start(['python3', '-c', server]);
    for await (const bytes of echo.command.output()) if (Buffer.from(bytes).includes('up')) break;
    const connection = await run.connect(7000);
    connection.write('abc');
    let answered = '';
    for await (const bytes of connection) answered += String(bytes);
    expect(answered).toBe('cba');
    await run.close();
  });

  test('aborting exec ends the command with its whole tree, and throws the reason', async () => {
    const client = await connect();
    // Who started it may stop it, whatever the policy offers to agents.
    const run = await client.runs.open({
      ...request(),
      policy: { text: smallPolicyText('tools: { allow: [exec] }\n') },
    });
    const stop = new AbortController();
    const running = run.exec('sleep 61 & sleep 62', {
      callId: 'long',
      signal: stop.signal,
      onOutput: () => undefined,
    });
    await untilRunning(run, 'long');
    stop.abort(new Error('enough'));
    await expect(running).rejects.toThrow('enough');
    expect((await run.command('long').ended()).data).toMatchObject({ outcome: { kind: 'cancelled' } });
    const ps = await run.exec('cat /proc/[0-9]*/cmdline | tr "\\0" " "');
    expect(ps.text).not.toMatch(/sleep 6[12]/);
    await run.close();
  });

  test('what is refused has the code of the service and the id of the request', async () => {
    const client = await connect();
    const none = client.runs.get('01hzzzzzzzzzzzzzzzzzzzzzzz').view();
    await expect(none).rejects.toMatchObject({
      code: 'run_not_found',
      requestId: expect.stringMatching(/./) as string,
    });
    await expect(client.runs.open({ policy: { name: 'no-such-policy' } })).rejects.toMatchObject({ code: 'not_found' });
    const run = await client.runs.open(request());
    await run.close();
    const late = run.call('late', { tool: 'exec', script: 'true' });
    await expect(late).rejects.toMatchObject({ code: 'run_not_open' });
  });
});

test('output comes whole and once over a connection that is cut again and again', async () => {
  await using proxy = await CutProxy.open(serving.socket);
  const reasks: Reask[] = [];
  const client = await GloveboxClient.connect({
    socketPath: proxy.socketPath,
    onReask: (reask) => void reasks.push(reask),
    pauseMs: 1,
  });
  const run = await client.runs.open({ policy });
  const script = 'for i in $(seq 1 300); do seq -f "$i %06g" 1 60; sleep 0.002; done';
  const { command } = await run.start(script);
  // However far the command is ahead of its reader: an event has up to 88,000 bytes, and some cuts have to let one through.
  proxy.cutsAfterBytes.push(0, 10, 900, 100_000, 7_000, 3, 100_000, 12_345);
  const chunks: Uint8Array[] = [];
  for await (const bytes of command.output({ waitMs: 1_000 })) chunks.push(bytes);
  expect(proxy.cuts).toBeGreaterThan(5);
  expect(reasks.length).toBeGreaterThan(5);
  const whole = Array.from({ length: 300 }, (_, i) =>
    Array.from({ length: 60 }, (__, j) => `${i + 1} ${String(j + 1).padStart(6, '0')}\n`).join(''),
  ).join('');
  expect(Buffer.concat(chunks).toString()).toBe(whole);
  await run.close();
});

test('a call whose answer is cut off ran once, and its answer comes all the same', async () => {
  await using proxy = await CutProxy.open(serving.socket);
  const reasks: Reask[] = [];
  const client = await GloveboxClient.connect({
    socketPath: proxy.socketPath,
    onReask: (reask) => void reasks.push(reask),
    pauseMs: 1,
  });
  const run = await client.runs.open({ policy });
  await client.close();
  const again = await GloveboxClient.connect({
    socketPath: proxy.socketPath,
    onReask: (reask) => void reasks.push(reask),
    pauseMs: 1,
  });
  proxy.cutsAfterBytes.push(0, 50, 300);
  const script = 'mkdir -p src; echo once >> src/log.txt; cat src/log.txt';
  const result = await again.runs.get(run.id).call('effect', { tool: 'exec', script });
  expect(result.text).toContain('once\nExit code 0');
  expect(reasks).toHaveLength(3);
  expect((await again.runs.get(run.id).read('src/log.txt')).data?.content.text).toBe('once\n');
  await run.close().catch(() => again.runs.get(run.id).close());
});

test('who asked cannot approve, another identity can, and the call goes on', async () => {
  const client = await remote();
  const ada = await GloveboxClient.connect({ socketPath: serving.socket, as: 'ada' });
  const run = await client.runs.open({ policy: asking });
  const waiting: string[] = [];
  const running = run.exec(['touch', '/tmp/x'], { onWaiting: (message) => void waiting.push(message) });
  const events = client.events();
  let approvals = await client.approvals.list({ run: run.id, state: 'pending' });
  while (approvals.length === 0) {
    await sleep(20);
    approvals = await client.approvals.list({ run: run.id, state: 'pending' });
  }
  const [approval] = approvals;
  const id = approval?.id ?? '';
  expect(approval?.category).toBe('touching');
  await expect(client.approvals.decide(id, { approve: true })).rejects.toMatchObject({ code: 'forbidden' });
  const next = events.next();
  expect((await ada.approvals.decide(id, { approve: true, reason: 'fine' })).state).toBe('approved');
  expect((await running).ok).toBe(true);
  expect((await next).value).toMatchObject({ run: run.id });
  await events.return();
  await run.close();
});

test('forks and snapshots are runs of the same client', async () => {
  const client = await remote();
  const run = await client.runs.open({ policy, workspace });
  await run.write('src/a.txt', 'changed\n');
  const snapshot = await run.snapshot();
  expect((await run.snapshots()).map(({ id }) => id)).toEqual([snapshot.id]);
  await run.write('src/a.txt', 'changed again\n');
  await run.restore(snapshot.id);
  expect((await run.read('src/a.txt')).data?.content.text).toBe('changed\n');
  const forks = await run.fork({ count: 2 });
  expect(await Promise.all(forks.map(async (fork) => (await fork.read('src/a.txt')).data?.content.text))).toEqual([
    'changed\n',
    'changed\n',
  ]);
  await Promise.all([run, ...forks].map((each) => each.close()));
  for (const { id } of [run, ...forks]) {
    const { journal } = bench.dataDir.runDir(id);
    expect(await checkJournal(journal)).toMatchObject({ verdict: 'closed', findings: [] });
  }
});

test('opening that is given up leaves no run', async () => {
  const client = await remote();
  const stop = new AbortController();
  const opening = client.runs.open({ policy, name: 'given-up' }, { signal: stop.signal });
  setTimeout(() => stop.abort(new Error('enough')), 30);
  await expect(opening).rejects.toThrow('enough');
  const isGone = (runs: readonly RunView[]): boolean => runs.every(({ state }) => state === 'closed');
  let { runs } = await client.runs.list({ name: 'given-up' });
  while (!isGone(runs)) {
    await sleep(20);
    ({ runs } = await client.runs.list({ name: 'given-up' }));
  }
});

async function untilRunning(run: RemoteRun, callId: string): Promise<void> {
  for (;;) {
    const result = await run
      .command(callId)
      .poll()
      .catch(() => undefined);
    if (result?.data?.state === 'running') return;
    await sleep(20);
  }
}
