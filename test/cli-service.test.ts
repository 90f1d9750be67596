import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { isListening } from '../src/cli/own-service.ts';
import { readEntries } from '../src/journal/read.ts';
import { ServiceLock } from '../src/service/service-lock.ts';
import { Bench, program, smallPolicyText } from './fixtures/bench.ts';

let bench: Bench;
let policy: string;
let socketPath: string;

beforeAll(async () => {
  bench = await Bench.make();
  policy = join(bench.folder, 'policy.yaml');
  socketPath = join(bench.dataDir.path, 'service.sock');
  await writeFile(policy, smallPolicyText());
});
afterAll(async () => {
  await stopService();
  await bench.close();
});

test('five command lines at once start one service, and each gets its run', async () => {
  const opened = await Promise.all([1, 2, 3, 4, 5].map((n) => bench.cli(['open', '--name', `n${n}`, '-p', policy])));
  expect(
    opened.map(({ exitCode }) => exitCode),
    opened[0]?.stderr,
  ).toEqual([0, 0, 0, 0, 0]);
  const log = await readFile(join(bench.dataDir.path, 'service.log'), 'utf8');
  expect(log.match(/the service is ready/g)).toHaveLength(1);
  expect(log).not.toContain('data_dir_in_use');
  const listed = await json<{ name: string; state: string }[]>(['ps', '--json']);
  expect(listed.map(({ name }) => name).sort()).toEqual(['n1', 'n2', 'n3', 'n4', 'n5']);
  for (const { name } of listed) expect((await bench.cliHere(['close', '-q', name])).exitCode).toBe(0);
  await stopService(); // with the sandboxes that it keeps ready
  expect(await bench.containers()).toEqual([]);
});

/** Forty command lines. */
const longMs = 120_000;

test('a run that stays open is worked in by its name, from open to report', { timeout: longMs }, async () => {
  await ensureService();
  const workspace = await bench.workspace({ 'src/a.txt': 'one\n', 'README.md': 'x\n' });
  const opened = await bench.cliHere(['open', '--name', 'box', '-p', policy, '-w', workspace, '--intent', 'a test']);
  const id = opened.stdout.trim();
  expect(id).toMatch(/^[0-9a-z]{26}$/);
  expect((await bench.cliHere(['open', '--name', 'box', '-p', policy])).stderr).toMatch(/box/);

  const ran = await bench.cliHere(['exec', 'box', '--', 'sh', '-c', 'echo out; echo err >&2; exit 7']);
  expect(ran).toMatchObject({ exitCode: 7, stdout: 'out', stderr: 'err' });
  const long = await bench.cli(['exec', 'box', '--', 'sh', '-c', 'seq 1 40000; sleep 0.2; seq 40001 50000']);
  expect(long.stdout).toBe(Array.from({ length: 50_000 }, (_, i) => `${i + 1}`).join('\n'));
  expect((await bench.cliHere(['exec', 'box', '-i', '--', 'cat'], { input: 'in\n' })).stdout).toBe('in');
  expect((await bench.cliHere(['exec', 'box', '-t', '300', '--', 'sleep', '60'])).exitCode).toBe(124);
  expect((await bench.cliHere(['exec', 'box', '--', 'no-such-command'])).exitCode).toBe(127);

  expect((await bench.cliHere(['write', 'box', 'src/b.txt'], { input: 'two\n' })).exitCode).toBe(0);
  expect((await bench.cliHere(['edit', 'box', 'src/b.txt', '--old', 'two', '--new', 'three'])).exitCode).toBe(0);
  const miss = await bench.cliHere(['edit', 'box', 'src/b.txt', '--old', 'nothing', '--new', 'x']);
  expect(miss).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/no_match/) as string });
  const patch = '--- a/src/a.txt\n+++ b/src/a.txt\n@@ -1 +1 @@\n-one\n+uno\n';
  expect((await bench.cliHere(['patch', 'box'], { input: patch })).stdout).toMatch(/updated src\/a\.txt/);
  expect((await bench.cliHere(['read', 'box', 'src/b.txt'])).stdout).toBe('three');
  expect((await bench.cliHere(['read', 'box', 'src/none.txt'])).exitCode).toBe(1);

  expect((await bench.cliHere(['diff', 'box'])).stdout).toMatch(/^\+uno$/m);
  expect((await json<{ changes: unknown[] }>(['diff', 'box', '--json'])).changes).toHaveLength(2);
  expect((await bench.cliHere(['log', 'box'])).stdout).toContain('call.intended');
  expect((await bench.cli(['complete', '--', 'exec', ''])).stdout).toMatch(/^box\b/m);

  const detached = await bench.cliHere(['exec', 'box', '-d', '--', 'sh', '-c', 'sleep 0.5; echo later']);
  const tail = bench.cli(['tail', 'box', '--json']);
  await untilEnded(id, detached.stdout.trim());
  expect((await bench.cliHere(['output', 'box', detached.stdout.trim()])).stdout).toBe('later');
  const closed = await bench.cliHere(['close', 'box']);
  expect(closed.stderr).toMatch(/modified\s+src\/a\.txt/);
  const followed = (await tail).stdout.split('\n').map((line) => JSON.parse(line) as { type: string; text?: string });
  expect(followed.find(({ type }) => type === 'output')?.text).toBe('later');
  expect(followed.at(-1)?.type).toBe('run.closed');

  expect((await bench.cliHere(['diff', 'box'])).stdout).toMatch(/^\+three$/m);
  expect((await bench.cliHere(['exec', 'box', '--', 'true'])).stderr).toMatch(/no open run is called "box"/);
  const report = await bench.cliHere(['report', 'box', '--fail-on', 'warning', '--json']);
  expect(report.exitCode).toBe(1);
  expect(JSON.parse(report.stdout)).toMatchObject({ outcome: 'finished', changes: ['src/a.txt', 'src/b.txt'] });
  expect((await bench.cliHere(['report', 'box'])).exitCode).toBe(0);
});

test('Ctrl-C ends the command and nothing else', async () => {
  await ensureService();
  await bench.cliHere(['open', '--name', 'stop', '-p', policy]);
  const running = bench.cli(['exec', 'stop', '--call-id', 'long', '--', 'sh', '-c', 'echo up; sleep 61']);
  running.stdout.on('data', () => running.kill('SIGINT'));
  const ran = await running;
  expect(ran.exitCode, ran.stderr).toBe(130);
  const ps = await bench.cliHere(['exec', 'stop', '--', 'sh', '-c', 'cat /proc/[0-9]*/cmdline | tr "\\0" " "']);
  expect(ps.stdout).not.toContain('sleep 61');
  expect((await bench.cliHere(['log', 'stop'])).stdout).toMatch(/long cancelled/);
  expect((await bench.cliHere(['close', '-q', 'stop'])).exitCode).toBe(0);
});

test('who runs a command in a run that is stopped is told why, and the run is open no more', async () => {
  await ensureService();
  const stopping = join(bench.folder, 'stopping.yaml');
  const rule = '{ id: a, host: [a.test], ports: [1], tls: none, methods: [GET], addresses: [127.0.0.0/8] }';
  const egress = `egress: { use: [web], dns: { max_unlisted: 5, on_excess: stop_run }, profiles: { web: [${rule}] } }\n`;
  await writeFile(stopping, smallPolicyText(egress));
  await bench.cliHere(['open', '--name', 'curious', '-p', stopping]);
  const script = 'for n in $(seq 40); do getent hosts x$n.test; done; sleep 19';
  const ran = await bench.cliHere(['exec', 'curious', '--', 'sh', '-c', script]);
  expect(ran.stderr).toMatch(/glovebox: cancelled: the run was stopped: .*more than 5 distinct names/);
  await expect.poll(() => json(['ps', '--json'])).toEqual([]);
});

test('what waits for people is listed as it would happen, and who asked cannot approve it', async () => {
  await ensureService();
  const asking = join(bench.folder, 'asking.yaml');
  const rules = `approvals:
  categories: { touching: { timeout: 20s } }
commands:
  - { id: touch, match: { program: touch }, effect: require_approval, category: touching, tests: { match: [touch x] } }
  - { id: rest, match: { program: "*" }, effect: allow, tests: { match: [ls] } }
`;
  await writeFile(asking, smallPolicyText(rules));
  await bench.cliHere(['open', '--name', 'ask', '-p', asking]);
  expect((await bench.cliHere(['approvals'])).stdout).toMatch(/nothing waits/);
  const waiting = bench.cli(['exec', 'ask', '--', 'touch', '/tmp/x']);
  let asked: { id: string; category: string }[] = [];
  while (asked.length === 0) asked = await json(['approvals', 'ls', '--run', 'ask', '--json']);
  const id = asked[0]?.id ?? '';
  expect((await bench.cliHere(['approvals'])).stdout).toMatch(/touching {2}pending[^]*\/tmp\/x/);
  const own = await bench.cliHere(['approvals', 'approve', id]);
  expect(own).toMatchObject({ exitCode: 125, stderr: expect.stringMatching(/forbidden/) as string });
  const key = ['key', 'create', '--team', 'local', '--identity', 'ada', '--json', '--scope', 'read', 'approve'];
  const { secret } = await json<{ secret: string }>(key);
  const env = { GLOVEBOX_URL: `unix:${socketPath}`, GLOVEBOX_KEY: secret };
  expect((await bench.cliHere(['approvals', 'deny', id, '-r', 'not today'], { env })).stdout).toMatch(/denied/);
  const denied = await waiting;
  expect(denied).toMatchObject({ exitCode: 125, stderr: expect.stringMatching(/not today/) as string });
  expect((await bench.cliHere(['close', '-q', 'ask'])).exitCode).toBe(0);
});

test('who takes something from a run, or reaches a port inside, has a part in it, whatever command does it', async () => {
  await ensureService();
  const reaching = join(bench.folder, 'reaching.yaml');
  const egress = 'egress: { use: [out], profiles: { out: [{ id: one, host: [one.test] }] } }\n';
  await writeFile(reaching, smallPolicyText(egress));
  const key = ['key', 'create', '--team', 'local', '--identity', 'ann', '--json', '--any-policy'];
  const { secret } = await json<{ secret: string }>(key);
  const env = { GLOVEBOX_URL: `unix:${socketPath}`, GLOVEBOX_KEY: secret };
  const opened = async (name: string): Promise<string> =>
    (await bench.cliHere(['open', '--name', name, '-p', reaching], { env })).stdout.trim();
  const [narrowed, reached] = [await opened('narrowed'), await opened('reached')];
  const taken = await bench.cliHere(['egress', 'narrowed', '--without', 'one']);
  expect(taken.stdout, taken.stderr).toMatch(/taken away: one/);
  const forward = bench.cli(['forward', 'reached', '8000', '--on', '0', '--json']);
  const [line] = (await once(forward.stdout, 'data')) as [Buffer];
  await fetch((JSON.parse(line.toString()) as { url: string }).url).catch(() => undefined); // nobody listens there
  expect(await joined(narrowed)).toMatchObject([{ how: 'narrowed' }]);
  expect(await joined(reached)).toMatchObject([{ how: 'connected' }]);
  await bench.cliHere(['close', '-q', 'reached'], { env });
  expect(await forward).toMatchObject({ exitCode: 0, stderr: expect.stringMatching(/has ended/) as string });
  const late = await bench.cliHere(['forward', reached, '8000'], { env });
  expect(late).toMatchObject({ exitCode: 125, stderr: expect.stringMatching(/is closed; glovebox log/) as string });
  await bench.cliHere(['close', '-q', 'narrowed'], { env });
});

test('who has a key with admin makes, sees and revokes keys of its team from elsewhere, and no others', async () => {
  await ensureService();
  const own = ['key', 'create', '--identity', 'ann', '--json', '--any-policy', '--scope', 'admin', 'read'];
  const { secret: admin } = await json<{ secret: string }>([...own, '--team', 'red']);
  const { id: theirs } = await json<{ id: string }>([...own, '--team', 'blue']);
  const elsewhere = join(bench.folder, 'elsewhere');
  const at = (GLOVEBOX_KEY: string, ...argv: string[]) =>
    bench.cliHere(argv, { env: { GLOVEBOX_URL: `unix:${socketPath}`, GLOVEBOX_KEY, GLOVEBOX_DATA: elsewhere } });
  const made = await at(admin, 'key', 'create', '-t', 'red', '-i', 'bot', '-s', 'read');
  expect(made).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^gbx_\S+$/) as string });
  expect(await at(made.stdout, 'ps', '--json')).toMatchObject({ exitCode: 0, stdout: '[]' });
  const listed = JSON.parse((await at(admin, 'key', 'ls', '--json')).stdout) as { id: string; team: string }[];
  expect(listed).toMatchObject([
    { team: 'red', identity: 'ann' },
    { team: 'red', identity: 'bot' },
  ]);
  const completed = await bench.cli(['complete', '--', 'key', 'revoke', '']);
  expect(completed.stdout).toMatch(new RegExp(`^${theirs}\\tann, team blue$`, 'm'));
  expect((await at(admin, 'key', 'revoke', theirs)).stderr).toMatch(/fits 0 keys/);
  expect((await at(admin, 'key', 'create', '-t', 'blue', '-i', 'bot', '-s', 'read')).stderr).toMatch(/\[forbidden\]/);
  expect((await at(admin, 'key', 'revoke', listed[1]?.id ?? '')).stdout).toMatch(/^revoked .* of bot, team red/);
  const refused = await at(made.stdout, 'ps', '--json');
  expect(refused).toMatchObject({
    exitCode: 125,
    stderr: expect.stringMatching(/revoked \[unauthenticated\]/) as string,
  });
  expect(existsSync(elsewhere)).toBe(false);
});

test('--tty is a terminal inside, and this one for as long', async () => {
  await ensureService();
  await bench.cliHere(['open', '--name', 'term', '-p', policy]);
  const glovebox = `${process.execPath} ${program} exec --tty term -- sh -c 'stty size; read a; echo got $a; exit 5'`;
  const ran = await execa('script', ['-qec', glovebox, '/dev/null'], {
    reject: false,
    input: 'hello\n',
    env: { GLOVEBOX_DATA: bench.dataDir.path },
    timeout: 30_000,
  });
  expect(ran.stdout).toMatch(/got hello/);
  expect(ran.exitCode).toBe(5);
  await bench.cliHere(['close', '-q', 'term']);
});

test('a service that is idle ends; one that has an open run stays', async () => {
  await stopService();
  const env = { GLOVEBOX_IDLE_MS: '400' };
  await bench.cliHere(['open', '--name', 'idle', '-p', policy], { env });
  await sleep(1_200);
  expect(await isListening(socketPath)).toBe(true);
  await bench.cliHere(['close', '-q', 'idle']);
  for (let n = 0; n < 100 && (await isListening(socketPath)); n++) await sleep(100);
  expect(await isListening(socketPath)).toBe(false);
  expect(await readFile(join(bench.dataDir.path, 'service.log'), 'utf8')).toContain('"reason":"idle"');
  expect((await bench.cliHere(['ps'])).stdout).toMatch(/no run is open/);
});

test('a service that is killed while a command line waits is said in so many words', async () => {
  await bench.cliHere(['open', '--name', 'killed', '-p', policy]);
  const env = { GLOVEBOX_URL: `unix:${socketPath}` };
  const waiting = bench.cli(['exec', 'killed', '--call-id', 'w', '--', 'sh', '-c', 'echo up; sleep 30'], { env });
  waiting.stdout.once('data', () => void killService('SIGKILL'));
  const ran = await waiting;
  expect(ran.exitCode).toBe(125);
  expect(ran.stderr).toMatch(/the connection was lost .*; asking again, 1 of 5: GET/);
  expect(ran.stderr).toMatch(/service_unavailable/);
  expect(ran.stderr).not.toMatch(/ {4}at /);
});

test('a service of one’s own that is killed comes back, and the command goes on where it was', async () => {
  await bench.cliHere(['open', '--name', 'back', '-p', policy]);
  const script = 'for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.4; done; exit 9';
  const waiting = bench.cli(['exec', 'back', '--', 'sh', '-c', script]);
  waiting.stdout.once('data', () => void killService('SIGKILL'));
  const ran = await waiting;
  expect(ran.stdout, ran.stderr).toBe(Array.from({ length: 8 }, (_, i) => `line ${i + 1}`).join('\n'));
  expect(ran.exitCode).toBe(9);
  expect(ran.stderr).toMatch(/starting the service/);
  expect((await bench.cliHere(['close', '-q', 'back'])).exitCode).toBe(0);
  expect((await bench.cliHere(['log', 'back'])).stdout.match(/call\.intended/g)).toHaveLength(1);
});

test('a service that cannot start says why, with the end of its log', async () => {
  await stopService();
  const broken = join(bench.folder, 'broken.yaml');
  await writeFile(broken, 'no-such-key: 1\n');
  const ran = await bench.cliHere(['ps', '-a', '--json'], { env: { GLOVEBOX_CONFIG: broken } });
  expect(ran.exitCode).toBe(0); // the data directory is enough
  const failed = await bench.cliHere(['open', '-p', policy], { env: { GLOVEBOX_CONFIG: broken } });
  expect(failed.exitCode).toBe(125);
  expect(failed.stderr).toMatch(/did not start \(exit 125\):[^]*no-such-key/);
});

/** The one that is there; for tests of what it does, not of how it comes and goes. It makes no sandbox that nobody has asked for. */
async function ensureService(): Promise<void> {
  if (await isListening(socketPath)) return;
  const serving = bench.cli(['serve', '--warm', '0']);
  const ended = serving.then(({ stderr }) => stderr);
  while (!(await isListening(socketPath))) {
    const said = await Promise.race([ended, sleep(50)]);
    if (said !== undefined) throw new Error(`the service has ended: ${said}`);
  }
}

async function json<T>(argv: readonly string[]): Promise<T> {
  const ran = await bench.cliHere(argv);
  return JSON.parse(ran.stdout) as T;
}

async function joined(run: string): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const { type, data } of readEntries(bench.dataDir.runDir(run).journal))
    if (type === 'participant.joined') found.push(data);
  return found;
}

async function untilEnded(run: string, callId: string): Promise<void> {
  const { journal } = bench.dataDir.runDir(run);
  const isEnded = (line: string): boolean => line.includes('"call.ended"') && line.includes(callId);
  while (!(await readFile(journal, 'utf8')).split('\n').some(isEnded)) await sleep(50);
}

async function killService(signal: NodeJS.Signals): Promise<void> {
  const holder = await ServiceLock.holder(bench.dataDir.path);
  if (holder !== undefined) process.kill(holder.pid, signal);
}

async function stopService(): Promise<void> {
  await killService('SIGTERM');
  while ((await ServiceLock.holder(bench.dataDir.path)) !== undefined) await sleep(50);
}
