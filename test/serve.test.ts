import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { checkJournal } from '../src/journal/check.ts';
import { Bench, program, smallPolicyText } from './fixtures/bench.ts';

/** `glovebox serve` as a process: what it prints, how it stops. */

let bench: Bench;
const services: { kill(signal: 'SIGKILL'): boolean }[] = [];

beforeAll(async () => {
  bench = await Bench.make();
});
afterAll(() => bench.close());
afterEach(() => {
  for (const service of services.splice(0)) service.kill('SIGKILL');
});

interface Told {
  readonly pid: number;
  readonly listening: readonly string[];
}

async function serve(...argv: readonly string[]) {
  const env = { GLOVEBOX_DATA: bench.dataDir.path, NO_COLOR: '1' };
  const started = execa(process.execPath, [program, 'serve', '--json', ...argv], { env, reject: false });
  services.push(started);
  const [line] = (await once(started.stdout, 'data')) as [Buffer];
  return { process: started, told: JSON.parse(line.toString()) as Told };
}

const socketPath = (): string => join(bench.dataDir.path, 'service.sock');

async function ask(
  method: string,
  path: string,
  body?: object,
): Promise<{ status: number; json: Record<string, unknown> }> {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const headers = text === undefined ? {} : { 'content-type': 'application/json' };
  const asked = request({ socketPath: socketPath(), path, method, headers, agent: false });
  asked.end(text);
  const [answer] = (await once(asked, 'response')) as [AsyncIterable<Buffer> & { statusCode: number }];
  const parts: Buffer[] = [];
  for await (const part of answer) parts.push(part);
  return {
    status: answer.statusCode,
    json: JSON.parse(Buffer.concat(parts).toString() || '{}') as Record<string, unknown>,
  };
}

const policy = { text: smallPolicyText() };

test('SIGTERM lets a running call come to its end and closes runs with their diffs; no other run is opened meanwhile', async () => {
  const { process: service, told } = await serve('--listen', '127.0.0.1:0');
  expect(told.listening).toEqual([`unix:${socketPath()}`, expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/)]);
  expect(statSync(socketPath()).mode & 0o777).toBe(0o600);
  expect((await fetch(`${told.listening[1]}/v1/runs`)).status).toBe(401);

  const run = String((await ask('POST', '/v1/runs', { policy })).json['id']);
  const script = 'sleep 0.7; echo late > src/late';
  const call = ask('PUT', `/v1/runs/${run}/calls/last`, { tool: 'exec', script: `mkdir -p src; ${script}` });
  await expect.poll(async () => (await ask('GET', `/v1/runs/${run}/calls/last`)).status).toBe(200);
  service.kill('SIGTERM');
  await expect.poll(async () => (await ask('POST', '/v1/runs', { policy })).json['code']).toBe('draining');
  expect((await call).json).toMatchObject({ ok: true });
  const ended = await service;
  expect(ended, ended.stderr).toMatchObject({ exitCode: 0 });
  expect(await bench.containers()).toEqual([]);
  const { journal } = bench.dataDir.runDir(run);
  expect(await checkJournal(journal)).toMatchObject({ verdict: 'closed' });

  const { process: next } = await serve('--warm', '0');
  expect((await ask('GET', `/v1/runs/${run}`)).json).toMatchObject({ state: 'closed', outcome: 'cancelled' });
  expect((await ask('GET', `/v1/runs/${run}/diff`)).json).toMatchObject({
    changes: expect.arrayContaining([expect.objectContaining({ path: 'src/late' })]),
  });
  expect((await ask('GET', `/v1/runs/${run}/calls/last`)).json).toMatchObject({ callId: 'last', ok: true });
  next.kill('SIGTERM');
  expect(await next).toMatchObject({ exitCode: 0 });
});

test('a second service on the data directory is refused and told whose it is; so is a second SIGTERM to wait', async () => {
  const { process: service, told } = await serve();
  const second = await bench.cli(['serve']);
  expect(second).toMatchObject({ exitCode: 125, stderr: expect.stringContaining(`process ${told.pid}`) });
  const run = String((await ask('POST', '/v1/runs', { policy })).json['id']);
  await ask('PUT', `/v1/runs/${run}/calls/long`, { tool: 'exec', script: 'sleep 19', yieldMs: 0 });
  service.kill('SIGTERM');
  await expect.poll(async () => (await ask('GET', '/v1/health/ready')).status).toBe(503);
  service.kill('SIGTERM');
  expect(await service).toMatchObject({ exitCode: 128 + 15 });
});

test('with --leave-runs a run, its command and its snapshots go on without a service, and the next one has them', async () => {
  const { process: service } = await serve('--leave-runs', '--warm', '0');
  const run = String((await ask('POST', '/v1/runs', { policy })).json['id']);
  const write = (text: string) => ({ tool: 'write', path: 'src/a', content: { utf8: text } });
  await ask('PUT', `/v1/runs/${run}/calls/w1`, { tool: 'mkdir', path: 'src' });
  await ask('PUT', `/v1/runs/${run}/calls/w2`, write('then'));
  const snapshot = (await ask('POST', `/v1/runs/${run}/snapshots`, {})).json['id'];
  await ask('PUT', `/v1/runs/${run}/calls/w3`, write('now'));
  const script = 'echo first; sleep 2; echo last';
  await ask('PUT', `/v1/runs/${run}/calls/c1`, { tool: 'exec', script, yieldMs: 0 });
  const before = await bench.containers();
  service.kill('SIGTERM');
  expect(await service).toMatchObject({ exitCode: 0 });
  expect(await bench.containers()).toEqual(before);
  const { process: next } = await serve('--warm', '0');
  const ended = await ask('GET', `/v1/runs/${run}/calls/c1?waitMs=10000`);
  expect(ended.json).toMatchObject({ data: { state: 'ended', exitCode: 0, output: { text: 'first\nlast\n' } } });
  expect((await ask('PUT', `/v1/runs/${run}/calls/c2`, { tool: 'exec', script: 'echo on' })).json).toMatchObject({
    ok: true,
  });
  expect((await ask('GET', `/v1/runs/${run}/snapshots`)).json).toMatchObject({ snapshots: [{ id: snapshot }] });
  expect((await ask('POST', `/v1/runs/${run}/restore`, { snapshot })).status).toBe(204);
  const read = { tool: 'read', path: 'src/a' };
  expect((await ask('PUT', `/v1/runs/${run}/calls/c3`, read)).json['text']).toContain('then');
  next.kill('SIGTERM');
  expect(await next).toMatchObject({ exitCode: 0 });
  expect(await bench.containers()).toEqual([]);
});

test('an address that others reach is refused without the word for it', async () => {
  const refused = await bench.cli(['serve', '--listen', '0.0.0.0:0']);
  expect(refused).toMatchObject({ exitCode: 125, stderr: expect.stringContaining('--listen-beyond-loopback') });
});

test('a harness elsewhere has nothing of the machine but its address and a key: it sends its files and works with them', async () => {
  const { told } = await serve('--listen', '127.0.0.1:0', '--warm', '0');
  const draft = {
    team: 'red',
    identity: 'ann',
    scopes: ['run:open', 'call', 'read'],
    policies: 'any',
    expiresAt: null,
  };
  const { secret } = (await ask('POST', '/v1/keys', draft)).json as { secret: string };
  const elsewhere = await mkdtemp(join(tmpdir(), 'glovebox-elsewhere-'));
  const env = { GLOVEBOX_URL: told.listening[1] ?? '', GLOVEBOX_KEY: secret, GLOVEBOX_DATA: join(elsewhere, 'none') };
  const cli = (...argv: string[]) => bench.cliHere(argv, { env });
  try {
    const workspace = join(elsewhere, 'files');
    await mkdir(join(workspace, 'src'), { recursive: true });
    await writeFile(join(workspace, 'src/a.txt'), 'one\n');
    await writeFile(join(elsewhere, 'policy.yaml'), smallPolicyText());
    const opened = await cli('open', '--name', 'far', '-p', join(elsewhere, 'policy.yaml'), '--upload', workspace);
    expect(opened.stderr).toMatch(/uploaded 1 file, 1 KiB/);
    expect((await cli('exec', 'far', '--', 'sh', '-c', 'cat src/a.txt; echo two >> src/a.txt')).stdout).toBe('one');
    expect((await cli('diff', 'far')).stdout).toMatch(/^\+two$/m);
    expect((await cli('egress', 'far')).stdout).toBe('nothing was asked of the network');
    const taken = await cli('egress', 'far', '--without', 'npm');
    expect(taken).toMatchObject({
      exitCode: 125,
      stderr: expect.stringMatching(/has no profile, rule or upstream "npm"/),
    });
    const [listed] = JSON.parse((await cli('ps', '--json')).stdout) as { run: string }[];
    const run = listed?.run ?? '';
    expect((await cli('close', '-q', 'far')).exitCode).toBe(0);
    expect((await cli('log', 'far')).stdout).toMatch(/run\.opened[^]*run\.closed/);
    expect((await cli('report', 'far')).exitCode).toBe(0);
    expect(await cli('check', 'far')).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^CLOSED|closed/m) });
    const { journal } = bench.dataDir.runDir(run);
    const text = await readFile(journal, 'utf8');
    await writeFile(journal, text.replace('cat src/a.txt', 'cat src/b.txt'));
    const changed = await cli('check', 'far', '--json');
    expect([changed.exitCode, JSON.parse(changed.stdout)]).toMatchObject([1, { verdict: 'broken' }]);
    await writeFile(journal, text);
    expect(existsSync(env.GLOVEBOX_DATA)).toBe(false);
    expect((await cli('base', 'ls')).stderr).toMatch(/base is of this machine .* not of the service at http/);
  } finally {
    await rm(elsewhere, { recursive: true });
  }
});

test('what a run proposes is verified, reviewed and taken from elsewhere, by people whom their keys name, and a rollback is told to the next run', async () => {
  const { process: service, told } = await serve('--listen', '127.0.0.1:0', '--warm', '0');
  const elsewhere = await mkdtemp(join(tmpdir(), 'glovebox-elsewhere-'));
  const at = async (identity: string, ...scopes: string[]) => {
    const draft = { team: 'red', identity, scopes, policies: 'any', expiresAt: null };
    const { secret } = (await ask('POST', '/v1/keys', draft)).json as { secret: string };
    const env = { GLOVEBOX_URL: told.listening[1] ?? '', GLOVEBOX_KEY: secret, GLOVEBOX_DATA: join(elsewhere, 'none') };
    return async (...argv: string[]): Promise<string> => {
      const { exitCode, stdout, stderr } = await bench.cliHere(argv, { env });
      return `${exitCode} ${stdout}${stderr}`;
    };
  };
  const here = async (...argv: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await bench.cliHere(argv);
    return `${exitCode} ${stdout}${stderr}`;
  };
  try {
    const [ann, kim] = [await at('ann', 'run:open', 'call', 'read', 'approve'), await at('kim', 'approve', 'read')];
    const workspace = join(elsewhere, 'files');
    await mkdir(join(workspace, 'src'), { recursive: true });
    await writeFile(join(workspace, 'src/a.txt'), 'one\n');
    await writeFile(join(workspace, 'check.sh'), 'grep -q two src/a.txt\n');
    const git = (...argv: string[]) =>
      execa('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.org', ...argv], { cwd: workspace });
    for (const argv of [
      ['init', '-qb', 'main'],
      ['add', '-A'],
      ['commit', '-qm', 'base'],
      ['branch', 'next'],
    ])
      await git(...argv);
    const gate = 'verify: { gates: [{ id: unit, run: [sh, check.sh], timeout: 10s }] }\n';
    await writeFile(
      join(elsewhere, 'policy.yaml'),
      smallPolicyText(`${gate}promotion: { reviewers: authenticated }\n`),
    );
    const work = async (name: string): Promise<string> => {
      await ann('open', '--name', name, '-p', join(elsewhere, 'policy.yaml'), '--upload', workspace);
      await ann('exec', name, '--', 'sh', '-c', 'echo two >> src/a.txt');
      return ann('close', name);
    };
    expect(await work('far')).not.toMatch(/rolled back before/);
    expect(await ann('verify', 'far')).toMatch(/^0 .*passed, 6 gates, 1 sandbox\b.*… unit\/candidate\/same/s);
    expect(await ann('review', 'far', '--accept')).toMatch(/^125 .*ann opened run .*forbidden/s);
    const shown = await kim('review', 'far');
    expect(shown).toMatch(/src\/a\.txt.*what happened.*1 call \(exec 1\).*by people whom a service knows.*\+two/s);
    const [, run = '', manifest = ''] = /glovebox review (\w+) --manifest (\w+) --accept/.exec(shown) ?? [];
    expect(await kim('export', 'far', '-o', join(elsewhere, 'far.tar'))).toMatch(/^0 /);
    const promote = ['promote', join(elsewhere, 'far.tar'), '--repo', workspace, '--branch', 'next'];
    expect(await here('review', run, '--accept', '--as', 'zoe')).toMatch(/^0 accepted by zoe.* named/s);
    expect(await here(...promote)).toMatch(/^125 .*has 0, without that of zoe, who are not known as surely/s);
    expect(await kim('review', 'far', '--accept', '--as', 'zoe')).toMatch(/^125 .*leave --as out/s);
    expect(await kim('review', 'far', '--accept', '--manifest', '0123456789ab')).toMatch(
      /^125 .*look at it again.*conflict/s,
    );
    expect(await kim('review', 'far', '--accept', '--manifest', manifest)).toMatch(
      /^0 accepted by kim.* authenticated/s,
    );
    expect(await here(...promote)).toMatch(/^0 promoted/);
    const { stdout } = await git('log', '-1', '--format=%(trailers:key=Reviewed-by,valueonly,separator=%x20)', 'next');
    expect(stdout).toBe('kim');
    expect(await here('rollback', run, '--reason', 'it broke')).toMatch(/^0 rolled back/);
    expect(await work('again')).toMatch(/rolled back before.* src\/a\.txt .*it broke/);
  } finally {
    service.kill('SIGTERM');
    await service;
    await rm(elsewhere, { recursive: true });
  }
});
