import { mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Engine } from '../src/engine/engine.ts';
import { labelKeys } from '../src/engine/labels.ts';
import { newId } from '../src/ids.ts';
import { readEntries } from '../src/journal/read.ts';
import { parsePolicy, type LoadedPolicy } from '../src/policy/policy.ts';
import { Runner, type Run } from '../src/runner.ts';
import { Bench, smallPolicyText } from './fixtures/bench.ts';

let bench: Bench;
let runner: Runner;
/** An ordinary directory of the host, with a file, a directory and a link in it. */
let source: string;

beforeAll(async () => {
  bench = await Bench.make();
  runner = await Runner.create(bench.engine, bench.dataDir);
});
beforeEach(async () => {
  source = await mkdtemp(join(tmpdir(), 'glovebox-input-'));
  await mkdir(join(source, 'deep/er'), { recursive: true });
  await writeFile(join(source, 'words.txt'), 'a word\n');
  await writeFile(join(source, 'deep/er/tool'), '#!/bin/sh\necho ran\n', { mode: 0o4755 });
  await symlink('../words.txt', join(source, 'deep/link'));
  await execa('chmod', ['-R', 'a+rX', source]);
});
afterEach(async () => {
  expect(await leftVolumes()).toEqual([]);
  await rm(source, { recursive: true, force: true });
});
afterAll(async () => {
  await runner.close();
  await bench.close();
});

async function leftVolumes(): Promise<readonly string[]> {
  return bench.engine.listVolumes({ [labelKeys.owner]: bench.dataDir.owner, [labelKeys.inputs]: '' });
}

function policyWith(from: string, more = ''): LoadedPolicy {
  const inputs = `inputs: [{ source: ${JSON.stringify(from)}, target: /inputs/data }]\n`;
  return parsePolicy(smallPolicyText(inputs + more), 'test');
}

let calls = 0;
async function sh(run: Run, script: string): Promise<string> {
  const result = await run.call(`c${calls++}`, { tool: 'exec', script });
  return result.text;
}

const attacks = [
  'echo x >> /inputs/data/words.txt',
  'echo x > /inputs/data/new',
  'rm /inputs/data/words.txt',
  'mv /inputs/data/words.txt /inputs/data/other',
  'chmod 777 /inputs/data/words.txt',
  'mkdir /inputs/data/d',
  'mount -o remount,rw /inputs/data',
  'rmdir /inputs/data',
  'echo x > /inputs/y',
];

describe.each(['runc', 'runsc'])('an input under %s', (runtime) => {
  test('is read and run, and cannot be written, renamed or removed; it is on record and in no diff', async () => {
    const policy = policyWith(source, runtime === 'runc' ? '' : 'runtime: runsc\n');
    const run = await runner.open({ policy, workspace: await bench.workspace({ 'src/a.txt': 'one\n' }) });
    expect(await sh(run, 'cat /inputs/data/words.txt /inputs/data/deep/link; /inputs/data/deep/er/tool')).toMatch(
      /^a word\na word\nran\n/,
    );
    for (const attack of attacks) expect(await sh(run, `${attack} || echo refused`), attack).toContain('refused');
    await sh(run, 'cp /inputs/data/words.txt src/');
    const [fork] = await runner.fork(run);
    expect(await sh(fork ?? run, 'cat /inputs/data/words.txt src/words.txt')).toMatch(/^a word\na word\n/);
    await Promise.all([run.close(), fork?.close()]);
    expect([...(run.candidate?.changeSet.changes.keys() ?? [])]).toEqual(['src/words.txt']);
    expect(await readFile(join(source, 'words.txt'), 'utf8')).toBe('a word\n');
    const started = await startedOf(run);
    expect(started).toEqual([
      { source, target: '/inputs/data', device: expect.any(String), inode: expect.any(String), files: 3 },
    ]);
  });
});

async function startedOf(run: Run): Promise<unknown> {
  for await (const entry of readEntries(run.dir.journal))
    if (entry.type === 'sandbox.started') return entry.data.inputs;
  return undefined;
}

test('what its path spells is no option of its mount: commas, colons, blanks, backslashes, line breaks', async () => {
  const odd = join(bench.folder, 'a,rw,suid:b \\\\ "q"\n%s');
  await mkdir(odd);
  await writeFile(join(odd, 'here'), 'odd\n');
  const run = await runner.open({ policy: policyWith(odd) });
  expect(await sh(run, 'cat /inputs/data/here; touch /inputs/data/x || echo refused')).toMatch(/^odd\n[^]*refused/);
  await run.close();
});

test('it is mounted read-only without devices and set-id programs, and nothing of the host beside it is there', async () => {
  await mkdir(join(dirname(source), 'beside'), { recursive: true });
  const run = await runner.open({ policy: policyWith(source) });
  const [line = ''] = (await sh(run, 'grep " /inputs/" /proc/self/mountinfo')).split('\n');
  expect(line.split(' ')[5]?.split(',')).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev']));
  expect(await sh(run, 'ls /inputs; ls /inputs/data/..; ls /inputs/data')).toMatch(/^data\ndata\ndeep\nwords\.txt\n/);
  await run.close();
  await rm(join(dirname(source), 'beside'), { recursive: true });
});

describe('what may not be an input is refused before anything starts', () => {
  async function refusal(from: string, more = ''): Promise<string> {
    const error: unknown = await runner.open({ policy: policyWith(from, more) }).then(
      (run) => run.close().then(() => 'it opened'),
      (thrown: unknown) => thrown,
    );
    expect(error).toMatchObject({ code: 'input_refused' });
    expect(await bench.containers()).toEqual([]);
    return (error as Error).message;
  }

  test('what belongs to the system, the engine or people, and whatever is above or below it', async () => {
    const places = [
      '/etc',
      '/etc/ssl',
      '/',
      '/proc/1',
      '/sys/kernel',
      '/dev/shm',
      '/run',
      '/var',
      '/var/run',
      '/var/lib/docker/volumes',
      '/root',
      '/home',
      '/home/somebody',
      homedir(),
      join(homedir(), '.ssh'),
      '/srv/x/.aws/sso',
      '/srv/secrets.d/id_rsa',
    ];
    for (const place of places) {
      if (place === '/') continue; // no policy can say it
      expect(await refusal(place), place).toMatch(/neither in it nor around|at home|keep there|hold secrets/);
    }
    expect(() => policyWith('/')).toThrow(/absolute path/);
    expect(() => policyWith('/srv/../etc')).toThrow(/absolute path/);
    expect(() => policyWith('srv')).toThrow(/absolute path/);
  });

  test("the runner's own data directory, whatever is above or below it, and the workspace", async () => {
    const { path } = bench.dataDir;
    for (const place of [path, dirname(path), join(path, 'blobs')])
      expect(await refusal(place)).toMatch(/neither in it nor around/);
    const workspace = await bench.workspace({ 'secrets/x': '' });
    await expect(runner.open({ policy: policyWith(join(workspace, 'secrets')), workspace })).rejects.toMatchObject({
      code: 'input_refused',
    });
  });

  test('the data directory under another name', async () => {
    await mkdir(join(source, 'alias'));
    await execa('mount', ['--bind', bench.dataDir.path, join(source, 'alias')]);
    try {
      expect(await refusal(source)).toMatch(/is mounted in it/);
      expect(await refusal(join(source, 'alias'))).toMatch(/under another name/);
    } finally {
      await execa('umount', [join(source, 'alias')]);
    }
  });

  test('a file, a link, a path through a link, and what is not there', async () => {
    expect(await refusal(join(source, 'words.txt'))).toMatch(/not a directory/);
    await symlink(source, `${source}-link`);
    expect(await refusal(`${source}-link`)).toMatch(/reached through a link; write its real path/);
    expect(await refusal(`${source}-link/deep`)).toMatch(/reached through a link/);
    await rm(`${source}-link`);
    expect(await refusal(join(source, 'nothing'))).toMatch(/no such file/);
  });

  test('a directory with a socket, a FIFO, a device or a denied name somewhere in it', async () => {
    const server = createServer().listen(join(source, 'deep/s'));
    await new Promise((resolve) => server.once('listening', resolve));
    expect(await refusal(source)).toMatch(/"deep\/s" is a socket/);
    await new Promise((resolve) => server.close(resolve));
    for (const make of [['mkfifo'], ['mknod', '-m', '666']]) {
      const [program = '', ...args] = make;
      await execa(program, [...args, join(source, 'deep/x'), ...(program === 'mknod' ? ['c', '1', '3'] : [])]);
      expect(await refusal(source)).toMatch(/"deep\/x" is a socket, a pipe or a device/);
      await rm(join(source, 'deep/x'));
    }
    await writeFile(join(source, 'deep/.env'), 'TOKEN=1\n');
    expect(await refusal(source)).toMatch(/files\.deny \*\*\/\.env names "deep\/\.env"/);
  });
});

test('a path that leads elsewhere once it was looked at is seen after the start: nothing runs, nothing is left', async () => {
  const elsewhere = await mkdtemp(join(tmpdir(), 'glovebox-secret-'));
  await writeFile(join(elsewhere, 'secret'), 'secret\n');
  for (const swap of ['link', 'directory']) {
    const swapping = await Runner.create(
      withInput(bench.engine, async () => {
        await rename(source, `${source}-away`);
        await (swap === 'link' ? symlink(elsewhere, source) : mkdir(source));
      }),
      bench.dataDir,
    );
    await expect(swapping.open({ policy: policyWith(source) }), swap).rejects.toMatchObject({
      code: 'isolation_unproven',
      message: expect.stringMatching(/has mounted inode \d+:\d+ instead of/),
    });
    await swapping.close();
    expect(await bench.containers()).toEqual([]);
    await rm(source, { recursive: true });
    await rename(`${source}-away`, source);
  }
  await rm(elsewhere, { recursive: true });
});

/** The engine, with something happening between the look at an input and its mount. */
function withInput(engine: Engine, before: () => Promise<void>): Engine {
  return new Proxy(engine, {
    get(target, name) {
      if (name === 'createInput')
        return async (...args: Parameters<Engine['createInput']>) => {
          await before();
          await target.createInput(...args);
        };
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === 'function' ? member.bind(target) : member;
    },
  });
}

test('the volumes of a runner that died are found by their label', async () => {
  const labels = { [labelKeys.owner]: bench.dataDir.owner, [labelKeys.instance]: newId(), [labelKeys.inputs]: newId() };
  for (const at of [0, 1])
    await bench.engine.createInput(`glovebox-input-${bench.dataDir.owner}-${at}`, source, labels);
  await runner.recover();
  expect(await leftVolumes()).toEqual([]);
});

test('an engine of another machine is told that nothing mounted there can be checked', async () => {
  const remote = new Proxy(bench.engine, {
    get(target, name) {
      if (name === 'describe') return async () => ({ ...(await target.describe()), local: false });
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === 'function' ? member.bind(target) : member;
    },
  });
  const away = await Runner.create(remote, bench.dataDir);
  await expect(away.open({ policy: policyWith(source) })).rejects.toMatchObject({
    code: 'policy_unenforceable',
    message: expect.stringMatching(/inputs of the policy cannot be shared/),
  });
  await away.close();
});

test('explain-files shows inputs, and why one would be refused', async () => {
  const policy = join(bench.folder, 'inputs.yaml');
  const workspace = await bench.workspace({ 'src/a.txt': '' });
  const explain = async (from: string): Promise<string> => {
    await writeFile(policy, policyWith(from).text);
    return (await bench.cliHere(['explain-files', '-p', policy, '-w', workspace])).stdout;
  };
  expect(await explain(source)).toMatch(/^input +\/inputs\/data +3 files +inputs \S+, read-only$/m);
  expect(await explain('/etc')).toMatch(/^refused +\/inputs\/data +.*\/etc/m);
});
