import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Approver } from '../src/approvals/approval.ts';
import { readEntries } from '../src/journal/read.ts';
import type { LoadedPolicy } from '../src/policy/policy.ts';
import { findReplay } from '../src/replay/replay-files.ts';
import type { ReplayRecord } from '../src/replay/replay-record.ts';
import { replayRun, type ReplayOptions } from '../src/replay/replay.ts';
import { Runner, type Run } from '../src/runner.ts';
import type { ToolCallInput } from '../src/tools/tool-call.ts';
import { smallPolicy } from './fixtures/bench.ts';
import { Outside } from './fixtures/outside.ts';
import { openRunnerBench } from './fixtures/runner-bench.ts';

/** Runs that are made again in real sandboxes; what is compared, and how, is tested beside the code. */

const { bench, runner } = await openRunnerBench();

const files = { 'src/sum.py': 'def add(a, b):\n    return a - b\n', 'README.md': 'sums\n', '.env': 'secret\n' };
const long = Array.from({ length: 200 }, (_, n) => `line ${n} of a long text`).join('\n');
const noisy = 'echo "pid $$ at $(date +%FT%T.%NZ)"; date +%s.%N; mktemp; echo "3 tests in 0.$RANDOM s"';

/** What an agent does on an ordinary day. */
const ordinary: readonly (readonly [string, ToolCallInput])[] = [
  ['look', { tool: 'list', path: '.' }],
  ['read', { tool: 'read', path: 'src/sum.py', lineNumbers: true }],
  ['search', { tool: 'grep', pattern: 'return' }],
  ['write', { tool: 'write', path: 'src/long.txt', content: { utf8: long } }],
  ['bytes', { tool: 'write', path: 'src/bytes', content: { base64: Buffer.from([0, 255, 10]).toString('base64') } }],
  ['edit', { tool: 'edit', path: 'src/sum.py', old: 'a - b', new: 'a + b' }],
  ['script', { tool: 'exec', script: `${'# a long script\n'.repeat(100)}wc -l src/long.txt; ${noisy}` }],
  ['stdin', { tool: 'exec', argv: ['sort'], stdin: { utf8: `${long}\nabc` } }],
  ['fails', { tool: 'exec', script: 'echo no >&2; exit 3' }],
  ['cd', { tool: 'exec', script: 'cd src; export LEFT=behind', session: 'main' }],
  ['there', { tool: 'exec', script: 'pwd; echo $LEFT', session: 'main' }],
  ['denied', { tool: 'write', path: 'README.md', content: { utf8: long } }],
  ['missing', { tool: 'read', path: 'src/missing' }],
  ['hangs', { tool: 'exec', script: 'echo begun; (setsid sleep 100 &); sleep 100', killAfterMs: 300 }],
  ['server', { tool: 'exec', script: 'while :; do echo tick; sleep 0.05; done', yieldMs: 200 }],
  ['reader', { tool: 'exec', argv: ['cat'], keepStdinOpen: true, yieldMs: 0 }],
  ['type', { tool: 'exec_write', callId: 'reader', data: { utf8: 'typed\n' }, close: true }],
  ['look-on', { tool: 'exec_poll', callId: 'reader' }],
  ['stop', { tool: 'exec_kill', callId: 'server' }],
];

test('an ordinary run is made again, call by call, and is repeatable: long arguments, input, denials and clocks included', async () => {
  const run = await played(ordinary);
  const record = await replayed(run);
  expect(record.divergence).toBeUndefined();
  expect(record).toMatchObject({ run: run.id, verdict: 'clean', repeatable: true, leftOut: [], network: false });
  const total = ordinary.length - 1; // who only looks is not on record
  expect(record.calls).toEqual({ total, replayed: total, denied: 1 });
  const met = record.noise.met.map(({ by }) => by);
  expect(met).toEqual(expect.arrayContaining(['duration', 'moment of the run', 'temporary name', 'timestamp']));
  expect(record.notes.join('\n')).toContain('call hangs ended as timed out: its output is compared as far as both go');
  expect((await findReplay(run.dir))?.record).toEqual(record);

  const entries = await entriesOf(record.replayed.run);
  expect(entries[0]).toMatchObject({
    type: 'run.opened',
    data: { replays: { run: run.id }, forkedFrom: { run: run.id } },
  });
  expect(entries.at(-1)).toMatchObject({ type: 'run.closed', hash: record.replayed.journal });
  expect((await entriesOf(run.id)).at(-1)).toMatchObject({ hash: record.journal });
  expect(await bench.containers()).toEqual([]);
});

test('what comes out otherwise is named: the first call, what was expected, and what was found', async () => {
  const run = await played([
    ['same', { tool: 'exec', script: 'echo same' }],
    ['random', { tool: 'exec', script: 'echo head; head -c 16 /dev/urandom | od -An -tx1; echo tail' }],
    ['after', { tool: 'exec', script: 'echo never > src/after' }],
  ]);
  const record = await replayed(run);
  expect(record).toMatchObject({
    verdict: 'diverged',
    repeatable: false,
    calls: { total: 3, replayed: 2 },
    divergence: { callId: 'random', tool: 'exec', aspect: 'output' },
  });
  expect(record.divergence?.diff[0]).toBe(' head');
  const { exitCode, stdout } = await bench.cliHere(['replay', run.id]);
  expect(exitCode).toBe(1);
  expect(stdout).toContain('first divergence at call random (exec): output');
});

test('the session of the demo is repeatable, with its denials and the approval at its end', async () => {
  const lines = readFileSync('examples/demo.jsonl', 'utf8').trim().split('\n');
  // What hangs, and what ends at the limit of processes, are said to come out as the moment has it; both take seconds.
  const session = join(await bench.workspace({}), 'session.jsonl');
  writeFileSync(session, lines.filter((line) => !line.includes('killAfterMs')).join('\n'));
  const policy = ['--policy', 'examples/demo-policy.yaml', '--workspace', 'examples/ledger'];
  const { stderr } = await bench.cliHere(['play', session, ...policy, '--approve', 'dependency']);
  const [, run = ''] = /run ([0-9a-z]{26})/.exec(stderr) ?? [];
  const { exitCode, stdout, stderr: told } = await bench.cliHere(['replay', run]);
  expect(exitCode, stdout + told).toBe(0);
  expect(stdout).toMatch(/repeatable: 12 of 12 calls made again, \d of them denied as before/);
});

test('nothing that differs in what is left behind is noise; what cannot be made again is told, and is never repeatable', async () => {
  const silent = await played([['stamp', { tool: 'exec', script: 'date +%s%N > src/stamp; echo ok > src/other' }]]);
  expect(await replayed(silent)).toMatchObject({
    verdict: 'diverged',
    divergence: { aspect: 'change_set', expected: expect.stringContaining('src/stamp: file 644, 20 bytes') as string },
  });
  const terminal = await played([
    ['before', { tool: 'exec', script: 'echo before' }],
    ['session', { tool: 'exec', argv: ['cat'], tty: { columns: 80, rows: 24 }, yieldMs: 0 }],
    ['typed', { tool: 'exec_write', callId: 'session', data: { utf8: 'x\n' } }],
  ]);
  expect(await replayed(terminal)).toMatchObject({
    verdict: 'incomplete',
    repeatable: false,
    calls: { total: 3, replayed: 1 },
    leftOut: [
      { callId: 'session', why: 'a terminal session: not replayed' },
      { callId: 'typed', why: 'it is about call session, which is not replayed' },
    ],
  });
});

test('a fork begins with what it began with then, and an approval holds that the journal has; nobody is asked again', async () => {
  let asked = 0;
  const approver: Approver = async () => {
    asked += 1;
    return [{ approve: true, by: 'ada', reason: 'fine' }];
  };
  const asking = await Runner.create(bench.engine, bench.dataDir, { approver });
  try {
    const policy = smallPolicy(`approvals: { categories: { ship: {} } }
commands:
  - { id: ship, match: { program: touch }, effect: require_approval, category: ship, tests: { match: [touch x] } }
  - { id: rest, match: { program: "*" }, effect: allow, tests: { match: [ls] } }
`);
    const source = await asking.open({ policy, workspace: await bench.workspace(files) });
    await source.call('first', { tool: 'write', path: 'src/new', content: { utf8: 'of the source' } });
    const [fork] = await asking.fork(source);
    if (fork === undefined) throw new Error('no fork');
    await source.call('second', { tool: 'remove', path: 'src/new' });
    await fork.call('look', { tool: 'read', path: 'src/new' });
    await fork.call('ship', { tool: 'exec', argv: ['touch', 'src/shipped'] });
    await Promise.all([fork.close(), source.close()]);
    expect(asked).toBe(1);
    expect(await replayed(fork)).toMatchObject({ verdict: 'clean', calls: { total: 2, replayed: 2, denied: 0 } });
    expect(asked).toBe(1);
  } finally {
    await asking.close();
  }
});

test('a replay has no network but when it is told so, and says what the run had reached', async () => {
  const outside = await Outside.open();
  const reaching = await Runner.create(bench.engine, bench.dataDir, { network: outside.network() });
  try {
    const policy = smallPolicy(
      `egress:\n  use: [web]\n  profiles:\n    web: [{ id: plain, host: [plain.test], ports: [${outside.ports.http}], tls: none, methods: [GET], addresses: [127.0.0.0/8] }]\n`,
    );
    const get = `exec 3<>/dev/tcp/plain.test/${outside.ports.http} && printf 'GET /a HTTP/1.0\\r\\nHost: plain.test:${outside.ports.http}\\r\\n\\r\\n' >&3 && tail -n 1 <&3`;
    const run = await played([['get', { tool: 'exec', script: get, shell: 'bash' }]], { policy, by: reaching });
    const parts = { runner: reaching, dataDir: bench.dataDir };
    const { record: without } = await replayRun(parts, run.id);
    expect(without).toMatchObject({ verdict: 'diverged', network: false, divergence: { callId: 'get' } });
    expect(without.divergence?.hints.join()).toContain('the call reached plain.test then');
    expect(outside.arrived).toHaveLength(1);
    const { record } = await replayRun(parts, run.id, { network: true });
    expect(record).toMatchObject({ verdict: 'clean', network: true });
    expect(record.notes.join()).toContain('servers outside were asked again');
    expect(outside.arrived).toHaveLength(2);
    const decided = (await entriesOf(record.replayed.run)).filter(({ type }) => type === 'egress.decided');
    expect(decided.length).toBeGreaterThan(0);
  } finally {
    await reaching.close();
    await outside.close();
  }
});

async function played(
  calls: readonly (readonly [string, ToolCallInput])[],
  { policy = smallPolicy(), by = runner }: { readonly policy?: LoadedPolicy; readonly by?: Runner } = {},
): Promise<Run> {
  const run = await by.open({ policy, workspace: await bench.workspace(files) });
  for (const [callId, call] of calls) await run.call(callId, call);
  await run.close();
  return run;
}

async function replayed(run: Run, options?: ReplayOptions): Promise<ReplayRecord> {
  return (await replayRun({ runner, dataDir: bench.dataDir }, run.id, options)).record;
}

async function entriesOf(run: string) {
  const entries = [];
  for await (const entry of readEntries(bench.dataDir.runDir(run).journal)) entries.push(entry);
  return entries;
}
