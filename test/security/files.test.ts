import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Runtime } from '../../src/engine/engine.ts';
import { newId } from '../../src/ids.ts';
import { Boxes, type Box } from '../fixtures/box.ts';
import { compile, script, underEachRuntime } from './fixtures/host.ts';

/** What a hostile program can change, and how much of it. */
const boxes = await Boxes.make();
const facts = await boxes.engine.describe();
const probe = await compile('probe.c');
const MiB = 1024 * 1024;
const small = {
  memoryBytes: 256 * MiB,
  workspaceBytes: 8 * MiB,
  workspaceInodes: 2048,
  tmpBytes: 4 * MiB,
  homeBytes: 2 * MiB,
  shmBytes: MiB,
};
afterAll(() => boxes.close());

underEachRuntime(facts, (runtime) => {
  let box: Box;
  let seen: Seen;
  let mounts: readonly Mount[];

  beforeAll(async () => {
    box = await boxes.open({ runtime, limits: small });
    await box.sandbox.files.write('/tmp/probe', probe, { mode: 0o755 });
    const source = Buffer.concat([script('attempt.py'), script('files.py')]).toString();
    seen = JSON.parse(await box.output(['python3', '-c', source])) as Seen;
    mounts = seen.mounts.trim().split('\n').map(mountOf);
  });

  test('of everything that is there, only the five bounded places can be written', () => {
    const places = ['/dev/mqueue', '/dev/shm', '/home/agent', '/tmp', '/workspace'];
    // gVisor has no message queues.
    expect([...seen.writable].sort()).toEqual(places.filter((place) => runtime === 'runc' || place !== '/dev/mqueue'));
  });

  test('files of the system cannot be changed, replaced, removed, or linked to somewhere else', () => {
    expect(Object.keys(seen.results).length).toBe(7 * 6 + 15 * 2);
    expect(Object.entries(seen.results).filter(([, answer]) => answer === 'ok')).toEqual([]);
  });

  test('the runner itself cannot write there by a file verb', async () => {
    for (const path of [
      '/etc/hosts',
      '/usr/bin/x',
      '/.glovebox/x',
      '/run/x',
      '/x',
      '/dev/x',
      '/proc/sys/kernel/hostname',
      '/sys/x',
    ])
      await expect(box.sandbox.files.write(path, Buffer.from('x')), path).rejects.toMatchObject({ name: 'FileError' });
  });

  test('no mount is there that was not asked for, and each has its flags', () => {
    const unknown = mounts.filter((mount) => expected(runtime).every((rule) => !rule.target.test(mount.target)));
    expect(unknown).toEqual([]);
    for (const mount of mounts)
      for (const rule of expected(runtime).filter((rule) => rule.target.test(mount.target)))
        for (const flag of rule.flags) expect(`${mount.target} ${mount.flags.join(',')}`).toContain(flag);
  });

  test('nothing that is mounted inside spreads outside', () => {
    expect(mounts.filter((mount) => /shared:|propagate_from:/.test(mount.optional))).toEqual([]);
  });

  test('no path of the host is mounted but the empty-handed files of the engine and our supervisor', () => {
    const fromHost = mounts.filter((mount) => mount.root !== '/' && !['proc', 'tmpfs'].includes(mount.type));
    const targets = fromHost.map((mount) => mount.target).sort();
    expect(targets).toEqual(
      runtime === 'runc' ? ['/.glovebox', '/etc/hostname', '/etc/hosts', '/etc/resolv.conf'] : [],
    );
    expect(seen.parents).toEqual(Object.fromEntries(Object.keys(seen.parents).map((path) => [path, true])));
  });

  test('there is no socket, FIFO or device anywhere but the devices of /dev', () => {
    expect(seen.sockets).toEqual([]);
    expect(seen.special).toEqual([]);
  });

  describe('a place that is filled', () => {
    test('ends at its size, and at its number of files', async () => {
      const source = Buffer.concat([script('attempt.py'), script('fill.py')]).toString();
      const places = '/workspace,/tmp,/home/agent,/dev/shm';
      const { held } = JSON.parse(
        await box.output(['python3', '-c', source, places, runtime === 'runc' ? '4000' : '0']),
      ) as Filled;
      const sizes = {
        '/workspace': small.workspaceBytes,
        '/tmp': small.tmpBytes,
        '/home/agent': small.homeBytes,
        '/dev/shm': small.shmBytes,
      };
      for (const [place, bytes] of Object.entries(sizes)) {
        expect(held[place]?.ended, place).toBe('ENOSPC');
        expect(held[place]?.bytes, place).toBeLessThanOrEqual(bytes);
        expect(held[place]?.bytes, place).toBeGreaterThan(bytes / 2);
        // gVisor counts no inodes: there the memory limit is the bound (test/security/resources.test.ts).
        if (runtime === 'runsc') continue;
        expect(held[place]?.endedFiles, place).toBe('ENOSPC');
        expect(held[place]?.files, place).toBeLessThanOrEqual(Math.max(2048, small.tmpBytes / 4096));
      }
      await box.sandbox.files.write('again.txt', Buffer.from('there is room again'));
    });
  });

  test('a working directory that leads out by a descriptor or a process is refused', async () => {
    const descriptors = Array.from({ length: 18 }, (_, n) => `/proc/self/fd/${n + 3}`);
    const processes = ['/proc/1/root', '/proc/1/cwd', '/proc/1/fd', '/proc/1/map_files', '/proc/1/fd/0'];
    const refused = await Promise.all(
      [...descriptors, ...processes].map(async (cwd) => {
        const { end, stdout } = await box.run(['/tmp/probe', 'who'], { cwd });
        return [cwd, end.outcome.kind === 'not_started' ? end.outcome.reason : stdout];
      }),
    );
    const open = refused.filter(
      ([cwd, reason]) => reason !== 'bad_cwd' && !(runtime === 'runsc' && cwd === '/proc/1/fd'),
    );
    expect(open).toEqual([]);
  });

  test('file verbs do not reach processes, devices or links that lead to them', async () => {
    await box.output(
      'ln -sfn /proc/1/environ e; ln -sfn /proc/1/root r; ln -sfn /dev/zero z; ln -sfn ../../../../../../etc/shadow s; mkfifo f',
    );
    for (const path of [
      'e',
      'r/etc/shadow',
      'z',
      's',
      'f',
      '/proc/1/environ',
      '/proc/self/fd/0',
      '/proc/self/mem',
      '/dev/zero',
      '/sys/kernel/x',
    ])
      await expect(box.sandbox.files.read(path), path).rejects.toMatchObject({ name: 'FileError' });
    const { entry, bytes } = await box.sandbox.files.read('/proc/../etc/os-release');
    expect(bytes.length).toBe(entry.sizeBytes); // the same verb reads what it may
  });

  test('what a tool is started with is not what it could have written before', async () => {
    await box.output(
      'printf "#!/bin/sh\\necho owned" > /workspace/sh; cp /workspace/sh /workspace/python3; cp /workspace/sh /tmp/sh; chmod 755 sh python3 /tmp/sh',
    );
    const call = await box.sandbox.start(newId(), {
      command: { kind: 'script', script: 'echo fine' },
      cwd: '/workspace',
    });
    await call.gone;
    expect((await call.output.read(0, 100)).bytes.toString()).toBe('fine\n');
    expect((await box.run(['python3', '-c', 'print("fine")'])).stdout).toBe('fine\n');
  });
});

interface Seen {
  readonly results: Record<string, string>;
  readonly writable: readonly string[];
  readonly sockets: readonly string[];
  readonly special: readonly string[];
  readonly parents: Record<string, boolean>;
  readonly mounts: string;
}

interface Filled {
  readonly held: Record<
    string,
    { readonly bytes: number; readonly ended: string; readonly files: number; readonly endedFiles: string }
  >;
}

interface Mount {
  readonly root: string;
  readonly target: string;
  readonly flags: readonly string[];
  readonly optional: string;
  readonly type: string;
}

/** proc_pid_mountinfo(5): id, parent, device, root, target, flags, optional fields, `-`, type, source, options. */
function mountOf(line: string): Mount {
  const [front = '', back = ''] = line.split(' - ');
  const [, , , root = '', target = '', flags = '', ...optional] = front.split(' ');
  return { root, target, flags: flags.split(','), optional: optional.join(' '), type: back.split(' ')[0] ?? '' };
}

interface MountRule {
  readonly target: RegExp;
  readonly flags: readonly string[];
}

const bounded = ['rw', 'nosuid', 'nodev'];

/** gVisor prints neither nosuid nor nodev; that setuid does nothing there is tried out in privilege.test.ts. */
function expected(runtime: Runtime): readonly MountRule[] {
  const flagsOf = (flags: readonly string[]): readonly string[] =>
    runtime === 'runc' ? flags : flags.filter((flag) => flag !== 'nosuid' && flag !== 'nodev');
  return [
    { target: /^\/$/, flags: ['ro'] },
    { target: /^\/\.glovebox$/, flags: ['ro'] },
    { target: /^\/etc\/(hosts|hostname|resolv\.conf)$/, flags: ['ro'] },
    { target: /^\/(workspace|tmp|home\/agent)$/, flags: flagsOf(bounded) },
    { target: /^\/run$/, flags: flagsOf([...bounded, 'noexec']) },
    { target: /^\/dev\/(shm|mqueue)$/, flags: flagsOf([...bounded, 'noexec']) },
    { target: /^\/dev$/, flags: flagsOf(['nosuid']) },
    { target: /^\/dev\/pts$/, flags: flagsOf(['nosuid', 'noexec']) },
    { target: /^\/proc$/, flags: flagsOf(['nosuid', 'nodev', 'noexec']) },
    { target: /^\/proc\/(bus|fs|irq|sys|sysrq-trigger)$/, flags: ['ro'] },
    // Masks: an empty read-only directory, or /dev/null.
    { target: /^\/proc\/(asound|acpi|scsi|pressure)$/, flags: ['ro'] },
    {
      target:
        /^\/proc\/(kcore|keys|latency_stats|timer_list|timer_stats|sched_debug|interrupts|kallsyms|config\.gz|cmdline|modules)$/,
      flags: [],
    },
    { target: /^\/sys(\/|$)/, flags: runtime === 'runc' ? [] : ['ro'] },
    { target: /^\/sys$/, flags: ['ro'] },
    { target: /^\/sys\/(firmware|kernel|devices\/virtual\/powercap|devices\/virtual\/dmi|class\/dmi)$/, flags: ['ro'] },
    { target: /^\/sys\/fs\/cgroup\/.+$/, flags: ['ro'] },
  ];
}
