import { RunnerError } from '../../errors.ts';
import type { ContainerSpec, EngineFacts, Tmpfs } from '../engine.ts';
import { refuseUnfit } from './fitness.ts';

/**
 * Compiles what was asked into the body of `POST /containers/create`. Promises:
 *  - nothing of it comes from anywhere but `ContainerSpec`, the constants here, and the image's names to be blanked;
 *  - no network, no capability but the supervisor's five, no new privileges, our seccomp profile, a read-only root,
 *    writable only where a tmpfs or a writable volume is asked for, memory without swap, bounded pids, processors and open files;
 *  - names are asked for on loopback, where nobody answers but a fence of ours, and nothing of the host's resolver is known;
 *  - nothing of the image takes effect but its files: not its environment, entrypoint, user, volumes, health check or shell.
 */
export function compileBody(spec: ContainerSpec, image: ImageDefaults, facts: EngineFacts): ContainerBody {
  refuseUnenforceable(spec, facts);
  return {
    Image: spec.image,
    User: '0:0',
    WorkingDir: spec.workdir,
    Hostname: spec.hostname,
    Domainname: '',
    Env: environment(spec, image),
    Entrypoint: spec.argv,
    Cmd: [],
    Labels: spec.labels,
    Healthcheck: { Test: ['NONE'] },
    StopSignal: 'SIGKILL',
    Tty: false,
    OpenStdin: true,
    StdinOnce: false, // a client that goes away must not close the supervisor's stdin: the next one attaches to it
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
    HostConfig: {
      NetworkMode: 'none',
      IpcMode: 'private',
      PidMode: '',
      UTSMode: '',
      UsernsMode: '',
      CgroupnsMode: 'private',
      Privileged: false,
      CapDrop: ['ALL'],
      CapAdd: supervisorCapabilities(facts),
      SecurityOpt: ['no-new-privileges:true', `seccomp=${spec.seccomp}`],
      ReadonlyRootfs: true,
      Tmpfs: tmpfsOf(spec, image),
      Mounts: spec.volumes.map((volume) => ({
        Type: 'volume',
        Source: volume.name,
        Target: volume.target,
        ReadOnly: volume.kind === 'files', // an input is read-only by its own mount, an overlay not at all
        VolumeOptions: { NoCopy: true },
      })),
      MaskedPaths: maskedPaths,
      ReadonlyPaths: readonlyPaths,
      Memory: spec.limits.memoryBytes,
      MemorySwap: spec.limits.memoryBytes, // memory and swap together: none is left for swap
      // cgroup v2 has no swappiness and the engine warns; `MemorySwap` alone forbids swapping there.
      ...(facts.cgroupVersion === 1 ? { MemorySwappiness: 0 } : {}),
      NanoCpus: Math.round(spec.limits.cpus * 1e9),
      PidsLimit: spec.limits.pidsMax,
      Ulimits: [
        { Name: 'nofile', Soft: spec.limits.openFilesMax, Hard: spec.limits.openFilesMax },
        { Name: 'core', Soft: 0, Hard: 0 },
        { Name: 'memlock', Soft: 65_536, Hard: 65_536 },
      ],
      OomScoreAdj: 500,
      OomKillDisable: false,
      ShmSize: spec.limits.shmBytes,
      LogConfig: { Type: 'none', Config: {} },
      RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
      AutoRemove: false,
      Init: false,
      // Said in full, or the engine would copy the rest of the host's own resolv.conf.
      Dns: ['127.0.0.1'],
      DnsSearch: ['.'],
      DnsOptions: ['timeout:2', 'attempts:3'],
      ...(spec.lowPorts === true ? { Sysctls: { 'net.ipv4.ip_unprivileged_port_start': '0' } } : {}),
      PublishAllPorts: false,
      Runtime: spec.runtime,
    },
  };
}

/** What an image would add to a container by itself. */
export interface ImageDefaults {
  readonly env: readonly string[];
  readonly volumes: readonly string[];
}

export interface ContainerBody {
  readonly Image: string;
  readonly Env: readonly string[];
  readonly Labels: Readonly<Record<string, string>>;
  readonly HostConfig: Readonly<Record<string, unknown>>;
  readonly [key: string]: unknown;
}

/**
 * KILL and the two SETs to end and become the tools' user, SETPCAP to empty the bounding set of a tool. SYS_NICE is used once and
 * given up: PID 1 goes before the tools for the processor. A user namespace would have it for nothing.
 */
function supervisorCapabilities({ enforces }: EngineFacts): readonly string[] {
  const always = ['KILL', 'SETUID', 'SETGID', 'SETPCAP'];
  return enforces.userNamespace ? always : [...always, 'SYS_NICE'];
}

/** The engine's own list and what it leaves readable: facts about the host that help an attacker and nobody else. */
const maskedPaths = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
  '/proc/interrupts',
  '/proc/kallsyms',
  '/proc/config.gz',
  '/proc/cmdline',
  '/proc/modules',
  '/proc/pressure', // of the whole host, and anybody may set triggers there
  '/sys/kernel',
  '/sys/devices/virtual/powercap',
  '/sys/class/dmi',
  '/sys/devices/virtual/dmi',
];

const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

/** gVisor's own threads count as processes of the sandbox. */
const runscPidsMin = 512;

function refuseUnenforceable(spec: ContainerSpec, facts: EngineFacts): void {
  const { limits } = spec;
  const missing: string[] = [];
  if (!facts.runtimes.includes(spec.runtime)) missing.push(`the runtime ${spec.runtime}`);
  else if (spec.runtime === 'runsc' && !facts.enforces.gvisor) missing.push('limits under runsc (--ignore-cgroups)');
  refuseUnfit(facts, `Sandbox ${spec.name}`, missing);
  if (spec.runtime === 'runsc' && limits.pidsMax < runscPidsMin) {
    throw new RunnerError(
      'policy_unenforceable',
      `Sandbox ${spec.name} asks for runsc with ${limits.pidsMax} processes; gVisor itself needs ${runscPidsMin}; raise limits.pids in the policy`,
    );
  }
  const positive = {
    ...limits,
    ...Object.fromEntries(spec.tmpfs.map((t) => [t.target, Math.min(t.sizeBytes, t.inodesMax)])),
  };
  for (const [name, value] of Object.entries(positive)) {
    // The engine reads zero as "no limit".
    if (!Number.isFinite(value) || value <= 0 || (name !== 'cpus' && !Number.isSafeInteger(value))) {
      throw new RunnerError(
        'invalid_request',
        `Sandbox ${spec.name}: the limit ${name} is ${value}; it must be above zero.`,
      );
    }
  }
}

/**
 * A name without a value takes a variable away: the image's, and those that the engine would add itself.
 * HOME is said because runc otherwise looks it up in the image's passwd.
 */
function environment(spec: ContainerSpec, image: ImageDefaults): readonly string[] {
  const given = new Set(spec.env.map(nameOf));
  const home = given.has('HOME') ? [] : ['HOME=/'];
  const blanked = new Set(['PATH', 'HOSTNAME', 'TERM', ...image.env.map(nameOf)]);
  for (const name of [...given, 'HOME']) blanked.delete(name);
  return [...spec.env, ...home, ...blanked];
}

function nameOf(variable: string): string {
  return variable.split('=', 1)[0] ?? variable;
}

/** A path that an image declares as VOLUME would become a writable, unbounded volume: an empty read-only tmpfs covers it. */
function tmpfsOf(spec: ContainerSpec, image: ImageDefaults): Readonly<Record<string, string>> {
  const tmpfs = [...spec.tmpfs, sharedMemory(spec)];
  const asked = tmpfs.map((one): [string, string] => [one.target, tmpfsOptions(one)]);
  const taken = new Set([...tmpfs, ...spec.volumes].map((mount) => mount.target));
  const covered = image.volumes
    .filter((path) => !taken.has(path))
    .map((path): [string, string] => [path, 'ro,noexec,nosuid,nodev,size=4096,nr_inodes=2,mode=0555']);
  return Object.fromEntries([...covered, ...asked]);
}

/** The engine's own has a size, but room for millions of empty files. */
function sharedMemory(spec: ContainerSpec): Tmpfs {
  const sizeBytes = spec.limits.shmBytes;
  const inodesMax = Math.max(1024, Math.floor(sizeBytes / 4096));
  return { target: '/dev/shm', sizeBytes, inodesMax, uid: 0, gid: 0, mode: 0o1777, exec: false };
}

function tmpfsOptions(tmpfs: Tmpfs): string {
  const { sizeBytes, inodesMax, mode, uid, gid, exec } = tmpfs;
  const bounds = `size=${sizeBytes},nr_inodes=${inodesMax},mode=${mode.toString(8).padStart(4, '0')},uid=${uid},gid=${gid}`;
  return `rw,${exec ? 'exec' : 'noexec'},nosuid,nodev,${bounds}`;
}
