import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RunRow } from '../src/cli/look/runs.ts';
import { Stats } from '../src/stats/stats.ts';
import { Bench, smallPolicyText } from './fixtures/bench.ts';

let bench: Bench;
let policy: string;

beforeAll(async () => {
  bench = await Bench.make();
  policy = join(bench.folder, 'policy.yaml');
  await writeFile(policy, smallPolicyText());
});
afterAll(() => bench.close());

test.each([
  ['its own', ['sh', '-c', 'exit 7'], 7],
  ['0', ['true'], 0],
  ['127 for a command that is not there', ['no-such-command'], 127],
  ['126 for one that cannot be executed', ['/etc/passwd'], 126],
  ['124 after the time-out', ['sleep', '60'], 124],
  ['143 for one that was ended by TERM', ['sh', '-c', 'kill -TERM $$'], 143],
  ['137 out of memory', ['python3', '-c', 'b"x" * (1 << 30)'], 137],
])('run ends with the exit code that people expect: %s', async (_, argv, code) => {
  const timeout = code === 124 ? '1000' : '20000';
  const ran = await bench.cliHere(['run', '-q', '-p', policy, '--timeout', timeout, '--', ...argv]);
  expect(ran.exitCode, ran.stderr).toBe(code);
});

test('run passes output, input and arguments on as they are', async () => {
  const ran = await bench.cli(
    ['run', '-q', '-p', policy, '--stdin', '--', 'sh', '-c', 'cat; echo "$1" >&2; exit 7', '-', '--json'],
    { input: 'in\n' },
  );
  expect(ran).toMatchObject({ exitCode: 7, stdout: 'in', stderr: '--json' });
});

test('run --json says what happened in one document', async () => {
  const workspace = await bench.workspace({ 'src/a.txt': 'one\n' });
  const ran = await bench.cliHere([
    'run',
    '--json',
    '-p',
    policy,
    '-w',
    workspace,
    '--',
    'sh',
    '-c',
    'echo two >> src/a.txt; echo hi',
  ]);
  const document = JSON.parse(ran.stdout) as {
    run: string;
    result: { data: { exitCode: number } };
    diff: { changes: unknown[] };
  };
  expect(document.result.data.exitCode).toBe(0);
  expect(document.diff.changes).toMatchObject([{ path: 'src/a.txt', status: 'modified', added: 1, removed: 0 }]);

  const diff = await bench.cliHere(['diff', document.run.slice(0, 20)]);
  expect(diff.stdout).toContain('+two');
  const listed = JSON.parse((await bench.cliHere(['diff', '--json', document.run])).stdout) as { complete: boolean };
  expect(listed.complete).toBe(true);

  const log = await bench.cliHere(['log', document.run]);
  // What somebody has looked at meanwhile (environment, files) depends on how short a run is.
  const story = /^ *\d+ +\S+ +((?:run|sandbox|call|workspace)\.\S+)/gm;
  expect([...log.stdout.matchAll(story)].map(([, type]) => type)).toEqual([
    'run.opened',
    'sandbox.started',
    'call.intended',
    'call.ended',
    'workspace.collected',
    'run.closed',
  ]);
  expect((await bench.cliHere(['output', document.run, 'command'])).stdout).toBe('hi');
  expect((await bench.cliHere(['output', document.run, 'nothing'])).stderr).toMatch(/call_not_found/);
  expect((await bench.cliHere(['check', document.run])).exitCode).toBe(0);
  expect((await bench.cliHere(['runs'])).stdout).toContain('finished');
});

test('check names the line of a journal that was tampered with', async () => {
  const ran = await bench.cliHere(['run', '--json', '-p', policy, '--', 'true']);
  const { directory } = JSON.parse(ran.stdout) as { directory: string };
  const lines = (await readFile(join(directory, 'journal.ndjson'), 'utf8')).split('\n');
  const forged = join(bench.folder, 'forged.ndjson');
  const called = lines.findIndex((line) => line.includes('"tool":"exec"'));
  await writeFile(forged, lines.map((line) => line.replace('"tool":"exec"', '"tool":"read"')).join('\n'));
  const check = await bench.cliHere(['check', forged]);
  expect(check.exitCode).toBe(1);
  expect(check.stdout).toContain(`line ${called + 1}`);
});

test('play goes on after failures, shows each, and leaves a diff', async () => {
  const workspace = await bench.workspace({ 'src/a.txt': 'one\n' });
  const session = [
    { call: { tool: 'exec', script: 'exit 3' } },
    { note: 'an edit', call: { tool: 'edit', path: 'src/a.txt', old: 'one', new: 'two' } },
    { call: { tool: 'write', path: '.env', content: { utf8: 'x' } } },
  ];
  const played = await bench.cliHere(['play', '-', '-p', policy, '-w', workspace], {
    input: session.map((line) => JSON.stringify(line)).join('\n'),
  });
  expect(played.exitCode, played.stderr).toBe(0);
  expect(played.stderr).toMatch(/exit 3/);
  expect(played.stderr).toMatch(/denied/);
  expect(played.stderr).toMatch(/modified\s+src\/a\.txt/);
});

test('explain-files folds what has one reason, names what is absent, and needs no engine', async () => {
  const workspace = await bench.workspace({ 'src/a.txt': '', 'src/b/c.txt': '', 'README.md': '', 'x/.env': '' });
  const env = { DOCKER_HOST: 'unix:///nowhere.sock' };
  const ran = await bench.cliHere(['explain-files', '-p', policy, '-w', workspace], { env });
  expect(ran.stdout).toContain('2 writable, 1 read-only, 0 scratch (0 B in all); 1 absent');
  expect(ran.stdout).toMatch(/^write +src\/ +2 files +files\.write src\/\*\*$/m);
  expect(ran.stdout).toMatch(/^absent +x\/ +files\.deny \*\*\/\.env/m);
  const absent = await bench.cliHere(['explain-files', '-p', policy, '-w', workspace, '--status', 'absent', '--json'], {
    env,
  });
  expect(JSON.parse(absent.stdout)).toMatchObject({
    counts: { write: 2, read: 1, scratch: 0, absent: 1 },
    entries: [{ path: 'x/.env', status: 'absent', why: { kind: 'secret' } }],
  });
});

test('a mistake is one line that says what to do, and nothing is opened', async () => {
  const cases = [
    { argv: ['run', '-p', '/nowhere.yaml', '--', 'true'], code: 125, says: /nowhere\.yaml/ },
    { argv: ['run', '-w', '/nowhere', '-p', policy, '--', 'true'], code: 125, says: /nowhere/ },
    { argv: ['diff', 'nothing'], code: 125, says: /nothing/ },
    { argv: ['play', '-', '-p', policy], input: '{"call":{"tool":"exce"}}', code: 125, says: /-:1/ },
    { argv: ['frobnicate'], code: 2, says: /unknown command/ },
  ];
  for (const { argv, code, says, ...rest } of cases) {
    const ran = await bench.cliHere(argv, rest);
    expect(ran.exitCode, argv.join(' ')).toBe(code);
    expect(ran.stderr).toMatch(says);
    expect(ran.stderr).not.toMatch(/ {4}at /);
  }
  expect(await bench.containers()).toEqual([]);
});

test('shell gives a terminal whose diff and journal stay', async () => {
  const workspace = await bench.workspace({ 'src/a.txt': 'one\n' });
  const glovebox = `${process.execPath} bin/glovebox.js shell -q -p ${policy} -w ${workspace}`;
  const ran = await execa('script', ['-qec', glovebox, '/dev/null'], {
    reject: false,
    input: 'tty; stty size; echo two > src/b.txt\nexit 5\n',
    env: { GLOVEBOX_DATA: bench.dataDir.path },
    timeout: 30_000,
  });
  expect(ran.stdout).toMatch(/\/dev\/pts\/0/);
  expect(ran.stdout).toMatch(/added\s+src\/b\.txt/);
  expect(ran.exitCode).toBe(5);
});

test.each([
  ['while it is opened', 'SIGINT', 130, 'workspace: '],
  ['while its command runs', 'SIGTERM', 143, 'started'],
  ['when the terminal goes', 'SIGHUP', 129, 'started'],
] as const)('a run that is interrupted %s is closed as cancelled (%s)', async (_, signal, code, seen) => {
  const argv = ['run', '-p', policy, '--', 'sh', '-c', 'trap "" TERM; echo started >&2; sleep 60'];
  const running = bench.cli(argv);
  running.stderr.on('data', (chunk: Buffer) => {
    if (String(chunk).includes(seen)) running.kill(signal);
  });
  const ran = await running;
  expect(ran.exitCode, ran.stderr).toBe(code);
  const [newest] = JSON.parse((await bench.cliHere(['runs', '--json'])).stdout) as { run: string; state: string }[];
  expect(newest?.state).toBe('cancelled');
  expect((await bench.cliHere(['check', newest?.run ?? ''])).exitCode).toBe(0);
  expect(await bench.containers()).toEqual([]);
});

test('a session that waits for its next line can be interrupted', async () => {
  const fifo = join(bench.folder, 'session.fifo');
  await execa('mkfifo', [fifo]);
  const playing = bench.cli(['play', fifo, '-p', policy]);
  await new Promise<void>((resolve) => {
    playing.stderr.on('data', (chunk: Buffer) => String(chunk).includes('opening') && resolve());
  });
  const [run] = await bench.dataDir.listRuns();
  while (!(await readFile(run?.journal ?? '', 'utf8')).includes('sandbox.started')) await sleep(50);
  await sleep(300);
  playing.kill('SIGTERM');
  const played = await playing;
  expect(played.exitCode ?? played.signal).toBe('SIGTERM');
  expect((await bench.cliHere(['runs', '-n', '1'])).stdout).toContain('cancelled');
});

test('a reader that goes away ends the run as it would end a command, and breaks nothing', async () => {
  const glovebox = `${process.execPath} bin/glovebox.js`;
  for (const line of [`run -q -p ${policy} -- yes`, 'runs', 'doctor', '--help']) {
    const ran = await execa('bash', ['-c', `set -o pipefail; ${glovebox} ${line} | true`], {
      reject: false,
      env: { GLOVEBOX_DATA: bench.dataDir.path },
      timeout: 20_000,
    });
    expect(ran.exitCode, line).toBe(141);
    expect(ran.stderr).toBe('');
  }
  expect((await bench.cliHere(['runs', '-n', '1'])).stdout).toContain('cancelled');
});

test('doctor, image ls and image verify answer in JSON', async () => {
  const doctor = JSON.parse((await bench.cliHere(['doctor', '--json'])).stdout) as {
    usable: boolean;
    checks: { id: string }[];
  };
  expect(doctor.usable).toBe(true);
  expect(doctor.checks.map((check) => check.id)).toEqual(
    expect.arrayContaining(['engine', 'memory', 'pids', 'seccomp', 'gvisor', 'clock']),
  );
  const images = JSON.parse((await bench.cliHere(['image', 'ls', '--json'])).stdout) as { name: string }[];
  expect(images.map((image) => image.name)).toContain('base');
});

test('stats counts every run that was closed, from the journals that are here', async () => {
  const listed = JSON.parse((await bench.cliHere(['runs', '-n', '500', '--json'])).stdout) as RunRow[];
  const closed = listed.filter(({ state, verifies }) => !['open', 'broken'].includes(state) && verifies === undefined);
  const { stdout, exitCode } = await bench.cliHere(['stats', '--since', 'all', '--by', 'policy', '--json']);
  const { all, groups } = Stats.parse(JSON.parse(stdout));
  expect(exitCode).toBe(0);
  expect(all.runs).toBe(closed.length);
  expect(groups.map(({ name }) => name).sort()).toEqual([...new Set(closed.map((run) => run.policy))].sort());
  expect(all.calls).toBe(closed.reduce((sum, { calls }) => sum + (calls ?? 0), 0));
});

test('an engine that is not there is said with the exact next step', async () => {
  const ran = await bench.cliHere(['run', '-p', policy, '--', 'true'], {
    env: { DOCKER_HOST: 'unix:///nowhere.sock' },
  });
  expect(ran.exitCode).toBe(125);
  expect(ran.stderr).toMatch(/engine_unavailable/);
  const doctor = await bench.cliHere(['doctor'], { env: { DOCKER_HOST: 'unix:///nowhere.sock' } });
  expect(doctor.exitCode).toBe(1);
});

test('completion knows the commands and the runs', async () => {
  const { stdout } = await bench.cli(['complete', '--', '']);
  for (const name of ['run', 'shell', 'play', 'diff', 'log', 'check', 'gc', 'image', 'doctor'])
    expect(stdout).toMatch(new RegExp(`^${name}\\b`, 'm'));
  const runs = JSON.parse((await bench.cliHere(['runs', '--json'])).stdout) as { run: string }[];
  const id = runs[0]?.run ?? '';
  for (const before of [['verify'], ['drift', id]])
    expect((await bench.cli(['complete', '--', ...before, ''])).stdout, before.join(' ')).toContain(id);
});
