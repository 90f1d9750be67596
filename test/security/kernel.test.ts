import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Runtime } from '../../src/engine/engine.ts';
import { Boxes, type Box } from '../fixtures/box.ts';
import { rawDocker } from '../fixtures/raw-docker.ts';
import { answersOf, compile, fixture, script, underEachRuntime } from './fixtures/host.ts';

/** What of the kernel a hostile program reaches: calls, devices, files about the host, other sandboxes. */
const boxes = await Boxes.make();
const facts = await boxes.engine.describe();
const probe = await compile('probe.c');
afterAll(() => boxes.close());

/**
 * What a runtime answers, written down. Under gVisor the engine's profile is not in force: what the supervisor's filter
 * refuses is refused, the rest is served by gVisor's own kernel, and the host's never sees it.
 */
interface Golden {
  readonly forbidden: Record<string, string>;
  readonly families: Record<string, readonly string[]>;
  readonly doors: Record<string, string>;
  readonly reach: Record<string, string>;
  /** Known to newer kernels or filter libraries only, or never shown to a filter by the kernel (uretprobe, uprobe). */
  readonly mayReach: Record<string, string>;
}

underEachRuntime(facts, (runtime) => {
  let box: Box;
  let golden: Golden | undefined;

  beforeAll(async () => {
    box = await boxes.open({ runtime });
    await box.sandbox.files.write('/tmp/probe', probe, { mode: 0o755 });
    golden = await readGolden(runtime);
  });

  const ask = async (what: string): Promise<Record<string, string>> =>
    answersOf(await box.output(['/tmp/probe', what]));

  test('system calls that no agent needs are refused, each with the answer that is written down', async (context) => {
    if (golden === undefined) return context.skip(`no answers are written down for ${runtime} on ${process.arch}`);
    const got = await ask('forbidden');
    if (runtime === 'runc') expect(got).toEqual(golden.forbidden);
    // gVisor's own kernel answers; a refusal where an answer was written down is no loss.
    else expect(looser(got, golden.forbidden)).toEqual({});
  });

  test('typing into the terminal of a command is refused on a real terminal too', async () => {
    const { stdout } = await box.run(['/tmp/probe', 'forbidden'], { tty: { columns: 80, rows: 24 } });
    const got = answersOf(stdout.replaceAll('\r', ''));
    const injections = Object.entries(got).filter(([name]) => name.startsWith('ioctl'));
    expect(injections).toHaveLength(5);
    expect(injections.filter(([, answer]) => answer === 'ok')).toEqual([]);
  });

  test('sockets are UNIX, TCP, UDP and routing netlink; 42 other families do not exist', async (context) => {
    if (golden === undefined) return context.skip(`no answers are written down for ${runtime} on ${process.arch}`);
    const got = await ask('families');
    const types = ['stream', 'datagram', 'raw'];
    const open: Record<string, string[]> = {};
    for (const [name, answer] of Object.entries(got)) {
      const [, family = '', type = ''] = /^family (\d+) type (\d)$/.exec(name) ?? [];
      if (answer === 'ok') (open[family] ??= []).push(types[Number(type) - 1] ?? type);
    }
    expect(Object.keys(got)).toHaveLength(46 * 3);
    expect(open).toEqual(golden.families);
  });

  test('of the numbers 0 to 600 only those that are written down reach a kernel', async (context) => {
    if (golden === undefined) return context.skip(`no answers are written down for ${runtime} on ${process.arch}`);
    const got = await ask('sweep');
    expect(Object.keys(got)).toHaveLength(601);
    const reached = Object.keys(got).filter((number) => got[number] !== 'EPERM' && got[number] !== 'ENOSYS');
    const known = { ...golden.mayReach, ...golden.reach };
    expect(reached.filter((number) => known[number] === undefined)).toEqual([]);
    const closed = Object.entries(golden.reach).filter(([number]) => !reached.includes(number));
    if (runtime === 'runc') expect(closed).toEqual([]);
  });

  test('there is no second door into the kernel: not i386, not x32', async (context) => {
    if (golden === undefined) return context.skip(`no answers are written down for ${runtime} on ${process.arch}`);
    expect(await ask('doors')).toEqual(golden.doors);
  });

  test('a crash leaves no core file and starts nothing on the host', async () => {
    const { stdout } = await box.run(
      'mkdir -p /tmp/crash && cd /tmp/crash && /tmp/probe crash; echo $?; ulimit -c; ls -A; ls -A /tmp | grep -c core',
    );
    expect(stdout.trim().split('\n')).toEqual(['134', '0', '0']);
  });

  describe('what is visible', () => {
    let seen: Seen;
    let before: readonly string[];
    beforeAll(async () => {
      before = await hostSettings();
      const source = Buffer.concat([script('attempt.py'), script('kernel.py')]);
      const command = {
        kind: 'argv',
        argv: ['python3', '-c', source.toString(), Object.keys(hiddenPaths).join(',')],
      } as const;
      seen = JSON.parse(await box.output(command)) as Seen;
    });

    test('what the profile masks shows nothing of the host', () => {
      const shown = Object.entries(seen.shown).filter(([path, what]) => !isEmpty(what) && !allowed(runtime, path));
      expect(shown).toEqual([]);
    });

    test('kernel settings, and the limits that hold the sandbox, cannot be written', async () => {
      const written = Object.entries(seen.results).filter(
        ([name, answer]) => name.startsWith('write ') && answer === 'ok',
      );
      expect(written).toEqual([]);
      expect(await hostSettings()).toEqual(before);
    });

    test('no device can be made and used', () => {
      const tried = Object.entries(seen.results).filter(([name]) => name.startsWith('device '));
      expect(tried).toHaveLength(32);
      expect(tried.filter(([, answer]) => answer === 'ok')).toEqual([]);
    });

    test('/dev holds the eight harmless devices and nothing else', () => {
      const files = [
        'fd',
        'full',
        'mqueue',
        'null',
        'ptmx',
        'pts',
        'random',
        'shm',
        'stderr',
        'stdin',
        'stdout',
        'tty',
        'urandom',
        'zero',
      ];
      // gVisor knows no message queues, and a tunnel of its own kernel, which leads nowhere, where it has one.
      const own = runtime === 'runsc' ? ['net', 'fuse'] : [];
      expect(seen.devices.filter((name) => !files.includes(name) && !own.includes(name))).toEqual([]);
      const opened = Object.entries(seen.results).filter(
        ([name, answer]) => name.startsWith('open /dev/') && answer === 'ok',
      );
      expect(opened.filter(([name]) => !own.some((device) => name.startsWith(`open /dev/${device}`)))).toEqual([]);
    });

    test('processes, root and sockets are those of the sandbox alone', () => {
      expect(Object.values(seen.commands).sort()).toEqual(['python3', 'supervisor']);
      expect(seen.commands['1']).toBe('supervisor');
      expect(seen.sameRoot).toBe(true);
      expect(seen.interfaces).toEqual(['lo']);
      expect(seen.unixSockets).toEqual([]);
    });
  });

  test('two sandboxes see nothing of each other', async () => {
    const other = await boxes.open({ runtime });
    const call = await box.sandbox.start('marked', {
      command: { kind: 'argv', argv: ['python3', '-c', leaveTraces] },
      descendants: 'keep',
    });
    await call.output.waitBeyond(0, 10_000);
    const own = JSON.parse(await box.output(['python3', '-c', findTraces])) as Record<string, boolean>;
    const others = JSON.parse(await other.output(['python3', '-c', findTraces])) as Record<string, boolean>;
    call.kill({ graceMs: 0 });
    await call.gone;
    expect(Object.values(own), JSON.stringify(own)).not.toContain(false); // the traces can be found at all
    expect(Object.values(others), JSON.stringify(others)).not.toContain(true);
    await other.close();
  });
});

test('the device list of the container is the default eight, without "all"', async (context) => {
  const box = await boxes.open();
  const list = await readFile(await deviceListOf(box.sandbox.containerId), 'utf8').catch(() => undefined);
  if (list === undefined)
    return context.skip('this engine has cgroup v2, where the list is a program, or runs elsewhere');
  const rules = list
    .trim()
    .split('\n')
    .map((line) => line.replace(/ (\w+)$/, ' $1'));
  expect(rules).not.toContain('a *:* rwm');
  const readable = rules.filter((rule) => rule.endsWith('rwm') || rule.endsWith('rw')).sort();
  // null zero full random urandom tty, console and terminals; 10:200 is the tunnel, which needs a node that is not there.
  const usual = [
    'c 10:200 rwm',
    'c 136:* rwm',
    'c 1:3 rwm',
    'c 1:5 rwm',
    'c 1:7 rwm',
    'c 1:8 rwm',
    'c 1:9 rwm',
    'c 5:0 rwm',
    'c 5:1 rwm',
    'c 5:2 rwm',
  ];
  expect(readable.filter((rule) => !usual.includes(rule))).toEqual([]);
  expect(rules.filter((rule) => !readable.includes(rule)).sort()).toEqual(['b *:* m', 'c *:* m']); // making is not using
});

interface Seen {
  readonly results: Record<string, string>;
  readonly shown: Record<string, string | number | readonly string[]>;
  readonly devices: readonly string[];
  readonly commands: Record<string, string>;
  readonly sameRoot: boolean;
  readonly interfaces: readonly string[];
  readonly unixSockets: readonly string[];
}

/** Facts about the host; what gVisor shows there is its own and not the host's. */
const hiddenPaths: Record<string, 'gvisor invents it' | 'hidden'> = {
  '/proc/asound': 'hidden',
  '/proc/acpi': 'hidden',
  '/proc/kcore': 'hidden',
  '/proc/keys': 'hidden',
  '/proc/latency_stats': 'hidden',
  '/proc/timer_list': 'hidden',
  '/proc/timer_stats': 'hidden',
  '/proc/sched_debug': 'hidden',
  '/proc/scsi': 'hidden',
  '/proc/interrupts': 'hidden',
  '/proc/kallsyms': 'hidden',
  '/proc/config.gz': 'hidden',
  '/proc/cmdline': 'gvisor invents it',
  '/proc/modules': 'hidden',
  '/proc/pressure': 'hidden',
  '/proc/kmsg': 'hidden',
  '/proc/kpagecount': 'hidden',
  '/proc/slabinfo': 'hidden',
  '/proc/vmallocinfo': 'hidden',
  '/sys/firmware': 'hidden',
  '/sys/kernel': 'gvisor invents it',
  '/sys/devices/virtual/powercap': 'hidden',
  '/sys/devices/virtual/dmi': 'hidden',
  '/sys/class/dmi': 'hidden',
};

function allowed(runtime: Runtime, path: string): boolean {
  return runtime === 'runsc' && hiddenPaths[path] === 'gvisor invents it';
}

function isEmpty(what: string | number | readonly string[]): boolean {
  return typeof what === 'string' || what === 0 || (typeof what === 'object' && what.length === 0);
}

function looser(got: Record<string, string>, golden: Record<string, string>): Record<string, string> {
  const refused = (answer: string | undefined): boolean => answer === 'EPERM' || answer === 'ENOSYS';
  return Object.fromEntries(
    Object.entries(got).filter(([name, answer]) => answer !== golden[name] && !refused(answer)),
  );
}

async function readGolden(runtime: Runtime): Promise<Golden | undefined> {
  const machine = process.arch === 'x64' ? 'x86_64' : process.arch;
  const text = await readFile(fixture(`golden-${runtime}-${machine}.json`), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as Golden);
}

async function hostSettings(): Promise<readonly string[]> {
  const paths = ['core_pattern', 'modprobe', 'hostname'].map((name) => `/proc/sys/kernel/${name}`);
  return await Promise.all(
    [...paths, '/proc/sys/vm/overcommit_memory'].map((path) => readFile(path, 'utf8').catch(() => '')),
  );
}

async function deviceListOf(containerId: string): Promise<string> {
  const { State } = (await rawDocker('GET', `/containers/${containerId}/json`)) as { State: { Pid: number } };
  const groups = await readFile(`/proc/${State.Pid}/cgroup`, 'utf8').catch(() => '');
  const [, group = 'absent'] = /^\d+:devices:(.*)$/m.exec(groups) ?? [];
  return `/sys/fs/cgroup/devices${group}/devices.list`;
}

/** A process with a name, an abstract socket, a file in each place, shared memory; stays until it is killed. */
const leaveTraces = `
import ctypes, os, socket, time
ctypes.CDLL(None).prctl(15, b"glovebox-mark")
listener = socket.socket(socket.AF_UNIX); listener.bind("\\0glovebox-mark"); listener.listen()
server = socket.socket(); server.bind(("0.0.0.0", 47110)); server.listen()
for place in ("/workspace", "/tmp", "/dev/shm", "/home/agent"): open(place + "/glovebox-mark", "w").close()
ctypes.CDLL(None).shmget(0x47420001, 4096, 0o1666)
print("ready", flush=True)
time.sleep(60)
`;

const findTraces = `
import ctypes, json, os, socket
def reaches(family, address):
    try:
        socket.create_connection(address, 2).close() if family == socket.AF_INET else socket.socket(family).connect(address)
        return True
    except OSError: return False
def comm(pid):
    try: return open("/proc/" + pid + "/comm").read().strip()
    except OSError: return ""
print(json.dumps({
    "process": "glovebox-mark" in [comm(pid) for pid in os.listdir("/proc") if pid.isdigit()],
    "abstract socket": reaches(socket.AF_UNIX, "\\0glovebox-mark"),
    "port": reaches(socket.AF_INET, ("127.0.0.1", 47110)),
    **{place: os.path.exists(place + "/glovebox-mark") for place in ("/workspace", "/tmp", "/dev/shm", "/home/agent")},
    "shared memory": ctypes.CDLL(None).shmget(0x47420001, 4096, 0) >= 0,
}))
`;
