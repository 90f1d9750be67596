import { randomBytes } from 'node:crypto';
import { readdirSync, readlinkSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { pack } from 'tar-stream';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Runtime } from '../../src/engine/engine.ts';
import { newId } from '../../src/ids.ts';
import { callEnvironment } from '../../src/sandbox/environment.ts';
import { Sandbox } from '../../src/sandbox/sandbox.ts';
import type { ExecSpec } from '../../src/sandbox/spec.ts';
import { Box, Boxes, testLabel } from '../fixtures/box.ts';
import { rawDocker } from '../fixtures/raw-docker.ts';
import { compile, script, underEachRuntime } from './fixtures/host.ts';

/** For two seconds, every pipe of every process that it may look into. */
const watchPipes = `import os, time
print("watching", flush=True)
found, end = set(), time.monotonic() + 2
while time.monotonic() < end:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                for fd in os.listdir(f"/proc/{name}/fd"):
                    found.add(os.readlink(f"/proc/{name}/fd/{fd}"))
            except OSError:
                pass
print("\\n".join(sorted(name for name in found if name.startswith("pipe:"))))`;

/** Every way up: its own value, that of its group and its user, other classes, and the limit that would allow it. */
const priorities = `import json, os, resource
def tried(name, act):
    try:
        act()
        return [name]
    except (OSError, ValueError):
        return []
nice = os.getpriority(os.PRIO_PROCESS, 0)
raised = sum((tried(name, act) for name, act in {
    "process": lambda: os.setpriority(os.PRIO_PROCESS, 0, -1),
    "group": lambda: os.setpriority(os.PRIO_PGRP, 0, -1),
    "user": lambda: os.setpriority(os.PRIO_USER, 0, -1),
    "back": lambda: (os.nice(1), os.nice(-1)),
    "limit": lambda: resource.setrlimit(13, (40, 40)),
    "round robin": lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1)),
}.items()), [])
print(json.dumps({"nice": nice, "pid1": os.getpriority(os.PRIO_PROCESS, 1), "raised": raised}))`;

interface Priorities {
  readonly nice: number;
  readonly pid1: number;
  readonly raised: readonly string[];
}

/** What a hostile program may become, and what it may do to the program that holds it. */
const flag = `flag-${randomBytes(16).toString('hex')}`;
const secret = `secret-${randomBytes(16).toString('hex')}`;
const flagPath = join(homedir(), `.${flag.slice(0, 12)}`);
const boxes = await Boxes.make();
const facts = await boxes.engine.describe();
const probe = await compile('probe.c');

beforeAll(async () => {
  process.env.GLOVEBOX_TEST_SECRET = secret;
  await writeFile(flagPath, flag, { mode: 0o600 });
});

afterAll(async () => {
  delete process.env.GLOVEBOX_TEST_SECRET;
  await rm(flagPath, { force: true });
  await boxes.close();
});

underEachRuntime(facts, (runtime) => {
  let box: Box;
  let seen: Seen;

  beforeAll(async () => {
    box = await boxes.open({ runtime });
    await box.sandbox.files.write('planted.txt', Buffer.from('planted for the search'));
    // A hand that waits for its input: a process of the supervisor's to be attacked.
    const attacked = new Deferred();
    const items = [
      { path: 'slow.txt', type: 'file', mode: 0o644, sizeBytes: 4, content: slowly(attacked.promise) },
    ] as const;
    const unpacking = box.sandbox.files.unpack('.', items);
    const source = Buffer.concat([script('attempt.py'), script('privilege.py')]);
    const asHex = [flag, secret].map((text) => Buffer.from(text).toString('hex')).join(',');
    seen = JSON.parse(await box.output(['python3', '-c', source.toString(), asHex], { cwd: '/' })) as Seen;
    attacked.resolve();
    await unpacking;
  });

  const ways: readonly [string, Partial<ExecSpec>][] = [
    ['with pipes', {}],
    ['with input', { stdin: { kind: 'bytes', bytes: Buffer.from('x') } }],
    ['with a terminal', { tty: { columns: 80, rows: 24 } }],
    ['with a third output', { aux: true }],
    ['to outlive its command', { descendants: 'keep' }],
  ];
  test.each(ways)('a tool that is started %s has no capability in any set', async (_way, options) => {
    const status = fieldsOf(await box.output(['cat', '/proc/self/status'], options));
    for (const name of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd']) expect(status.get(name)).toBe('0000000000000000');
    // gVisor has no line for the ambient set; prctl is asked below.
    if (runtime === 'runc') expect(status.get('CapAmb')).toBe('0000000000000000');
    expect(status.get('Uid')).toBe('10001 10001 10001 10001');
    expect(status.get('Gid')).toBe('10001 10001 10001 10001');
    expect(status.get('Groups')).toMatch(/^2\d{4}$/);
  });

  test.each(ways)('a tool that is started %s is as urgent as any other, and cannot rise', async (_way, options) => {
    const text = await box.output(['python3', '-c', priorities], options);
    const { nice, pid1, raised } = JSON.parse(text) as Priorities;
    expect(nice).toBe(0);
    if (runtime === 'runsc') return; // takes any value and does nothing with it
    expect(pid1, 'the supervisor goes first').toBe(facts.enforces.userNamespace ? 0 : -20);
    expect(raised).toEqual([]);
  });

  test('no new privileges, a system call filter, nothing in the bounding and ambient sets: the kernel says so', () => {
    expect(seen.prctl.no_new_privs).toBe(1);
    expect(seen.bounding).toEqual([]);
    expect(seen.ambient).toEqual([]);
    expect(seen.prctl.seccomp, "a filter: the engine's, or under gVisor that of the supervisor").toBe(2);
  });

  test('PID 1 holds KILL, SETUID, SETGID and SETPCAP and nothing more', () => {
    const status = fieldsOf(seen.status['1']);
    for (const name of ['CapPrm', 'CapEff', 'CapBnd']) expect(status.get(name)).toBe('00000000000001e0');
    expect(status.get('CapInh')).toBe('0000000000000000');
    expect(status.get('Groups')).toBe('');
    if (runtime === 'runsc') return; // has no lines for these
    expect(['CapAmb', 'NoNewPrivs', 'Seccomp'].map((name) => status.get(name))).toEqual(['0000000000000000', '1', '2']);
  });

  test('nothing that a tool asks for makes it more than it is', () => {
    const rising = Object.entries(seen.results).filter(([name]) => /^(rise|capset)/.test(name));
    expect(rising).toHaveLength(22);
    // gVisor takes any nice value and does nothing with it.
    const idle = runtime === 'runsc' ? 'rise: nice below zero' : '';
    expect(rising.filter(([name, answer]) => answer === 'ok' && name !== idle)).toEqual([]);
  });

  test('a tool keeps its private group, by which its tree is found, whatever it tries', () => {
    expect(seen.ownGroups).toHaveLength(1);
    expect(seen.groups).toEqual(seen.ownGroups);
  });

  test('a setuid root program in the workspace runs as who started it', async () => {
    const owners = { path: 'setuid', type: 'file', mode: 0o6755, owner: 'root', content: probe } as const;
    await box.sandbox.files.unpack('.', [owners], { owners: true }).catch(() => undefined); // refused is fine too
    await box.run('test -e setuid || cp /tmp/probe setuid; chmod 6755 setuid');
    const { stdout } = await box.run(['/workspace/setuid', 'who']);
    expect(stdout).toBe(await nobody(box));
  });

  test('a setuid root program in the image runs as who started it, without the environment of the image', async () => {
    const tag = `glovebox-test/setuid-${newId()}:1`;
    const image = await boxes.engine.importImage(Readable.from([await rootWith(probe)]), {
      tag,
      labels: {},
      env: [`IMAGE_SECRET=${secret}`],
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    });
    const id = newId();
    const spec = { ...box.sandbox.spec, id, image, labels: { [testLabel]: id } };
    const sandbox = await Sandbox.open(boxes.engine, spec, { directory: join(boxes.directory, id) });
    try {
      const inside = new Box(sandbox);
      expect(await inside.output(['/setuid', 'who'])).toBe('uid 10001 10001 10001 gid 10001 10001 10001\n');
      const environment = (await inside.output(['/setuid', 'environment'])).trim().split('\n');
      expect(environment.toSorted()).toEqual(callEnvironment({}).toSorted()); // nothing of the image's
    } finally {
      await sandbox.close();
      await boxes.engine.removeImage(tag);
    }
  });

  test('supervisor and hand cannot be signalled, traced, read or written', () => {
    expect(Object.keys(seen.targets).sort()).toEqual(['hand', 'supervisor']);
    const tried = Object.entries(seen.results).filter(([name]) => /^(supervisor|hand): /.test(name));
    expect(tried.length).toBeGreaterThan(200);
    const worked = tried.filter(([, answer]) => answer === 'ok').map(([name]) => name);
    expect(worked.filter((name) => !harmless[runtime].includes(name.split(': ')[1] ?? ''))).toEqual([]);
    if (runtime === 'runc') expect(worked.filter((name) => name.startsWith('supervisor'))).toEqual([]);
  });

  test('the pipes of the stream are in no process that a tool can look into, not even in one that is just starting', async () => {
    const { State } = await rawDocker('GET', `/containers/${box.sandbox.containerId}/json`);
    const held = pipesOf((State as { Pid: number }).Pid);
    const watching = await box.sandbox.start(newId(), {
      command: { kind: 'argv', argv: ['python3', '-c', watchPipes] },
    });
    await watching.output.waitBeyond(0, 10_000);
    for (let n = 0; n < 60; n++) await box.run(['true']);
    expect((await watching.ended).outcome).toEqual({ kind: 'exited', code: 0 });
    const found = (await watching.output.read(0, 2 ** 20)).bytes.toString().trim().split('\n').slice(1);
    expect(found.length).toBeGreaterThan(2); // it does see those of other commands
    expect(found.filter((name) => held.includes(name))).toEqual([]);
    if (runtime === 'runc') expect(held.length).toBeGreaterThanOrEqual(5); // stdin, stdout, stderr and two of its own
  });

  test('a file that is being written while tools attack its writer arrives as it was sent', async () => {
    expect((await box.sandbox.files.read('slow.txt')).bytes.toString()).toBe('slow');
  });

  test('a tool that kills everything it can kills nothing but itself', async () => {
    const other = await box.sandbox.start(newId(), { command: { kind: 'argv', argv: ['sleep', '30'] } });
    await other.started;
    await box.run(['python3', '-c', 'import os; os.kill(-1, 9)']);
    expect((await other.ended).outcome).toEqual({ kind: 'signaled', signal: 9 }); // calls of one sandbox trust each other
    expect(box.sandbox.state).toBe('running');
    expect(await box.output(['echo', 'still here'])).toBe('still here\n');
  });

  test('the environment of a tool is ours to the letter, and that of the supervisor says nothing', async () => {
    const environment = await box.output(['python3', '-c', readEnvironment]);
    expect(
      environment
        .split('\0')
        .filter((line) => line !== '')
        .sort(),
    ).toEqual(callEnvironment({}).toSorted());
    const supervisor = await environmentOfInit(box.sandbox.containerId);
    expect(supervisor.filter((line) => line !== 'HOME=/')).toEqual([]);
  });

  test('a tool has its three descriptors, the script or third output it was given, and no other', async () => {
    const list =
      'import os; print([fd for fd in range(4096) if os.path.exists(f"/proc/self/fd/{fd}") or os.path.islink(f"/proc/self/fd/{fd}")])';
    expect(await box.output(['python3', '-c', list])).toBe('[0, 1, 2]\n');
    expect(await box.output(['python3', '-c', list], { aux: true })).toBe('[0, 1, 2, 3]\n');
    expect(await box.output(['python3', '-c', list], { tty: { columns: 80, rows: 24 } })).toBe('[0, 1, 2]\r\n');
  });

  test('a file of mode 600 on the host and a secret of the runner are nowhere: no file, environment or argument', () => {
    expect(seen.planted).toBe(1); // what is there is found
    expect(seen.scanned).toBeGreaterThan(1000);
    expect(seen.places).toEqual({});
  });
});

interface Seen {
  readonly results: Record<string, string>;
  readonly groups: readonly number[];
  readonly ownGroups: readonly number[];
  readonly places: Record<string, string>;
  readonly planted: number;
  readonly scanned: number;
  readonly prctl: Record<'no_new_privs' | 'seccomp' | 'dumpable', number>;
  readonly bounding: readonly number[];
  readonly ambient: readonly number[];
  readonly targets: Record<string, number>;
  readonly status: Record<'self' | '1', string>;
}

/**
 * Under runc a hand acts with the effective user of the tools, who may therefore make it slower; never PID 1. gVisor has no
 * real priorities, and shows of any process what is not secret: an empty environment, addresses, names of descriptors.
 */
const harmless: Record<Runtime, readonly string[]> = {
  runc: ['setpriority', 'affinity', 'scheduler'],
  runsc: [
    'setpriority',
    'affinity',
    'scheduler',
    'read environ',
    'read maps',
    'read auxv',
    'list fd',
    'link fd/0',
    'link fd/1',
    'link fd/2',
    'link ns/net',
  ],
};

/** A promise that is resolved from outside. */
class Deferred {
  readonly promise: Promise<void>;
  #resolve: () => void = () => undefined;
  constructor() {
    this.promise = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }
  resolve(): void {
    this.#resolve();
  }
}

async function* slowly(signal: Promise<void>): AsyncGenerator<Buffer> {
  yield Buffer.from('sl');
  await signal;
  yield Buffer.from('ow');
}

const readEnvironment = 'import sys; sys.stdout.write(open("/proc/self/environ").read())';

/** As the host sees it; under gVisor PID 1 is no process of the host, and the engine's record is all there is. */
async function environmentOfInit(containerId: string): Promise<readonly string[]> {
  const answer = (await rawDocker('GET', `/containers/${containerId}/json`)) as { Config: { Env: readonly string[] } };
  return answer.Config.Env.filter((line) => line.includes('='));
}

function fieldsOf(status: string): Map<string, string> {
  const lines = status.replaceAll('\r', '').split('\n');
  return new Map(
    lines.map((line) => [
      line.split(':')[0] ?? '',
      line
        .slice(line.indexOf(':') + 1)
        .trim()
        .replaceAll('\t', ' '),
    ]),
  );
}

async function nobody(box: Box): Promise<string> {
  await box.sandbox.files.write('/tmp/probe', probe, { mode: 0o755 });
  return await box.output(['/tmp/probe', 'who']);
}

/** A root file system with one setuid and setgid program of root. */
async function rootWith(program: Buffer): Promise<Buffer> {
  const tar = pack();
  for (const name of ['tmp/', 'proc/', 'sys/', 'dev/', 'etc/', 'workspace/']) tar.entry({ name, type: 'directory' });
  tar.entry({ name: 'setuid', mode: 0o6755, uid: 0, gid: 0 }, program);
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Of a process, seen from the host. */
function pipesOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`)
    .map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
    .filter((name) => name.startsWith('pipe:'));
}
