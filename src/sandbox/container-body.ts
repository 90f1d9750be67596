import type { ContainerSpec, Labels, MountedVolume, Runtime } from '../engine/engine.ts';
import { RunnerError } from '../errors.ts';
import { home, toolGid, toolUid, workspace } from './environment.ts';
import { seccompProfile } from './seccomp.ts';

export interface SandboxSpec {
  readonly id: string;
  /** Image id (`sha256:…`). */
  readonly image: string;
  readonly runtime: Runtime;
  readonly limits: SandboxLimits;
  readonly labels: Labels;
  /** Who owns `/workspace` itself, and its mode. Default: root, 0755. */
  readonly workspaceRoot?: { readonly owner: 'root' | 'tool'; readonly mode: number };
  /** A bounded volume that is the workspace. Default: a file system in memory. */
  readonly workspaceVolume?: string;
  /** Read-only directories beside the workspace. */
  readonly inputs?: readonly MountedVolume[];
  /** A fence will listen on its loopback, on ports such as 53 and 443, as the tools' user. */
  readonly egress?: boolean;
}

export interface SandboxLimits {
  /** Covers processes and everything in the file systems below, which live in memory (a workspace volume does not). */
  readonly memoryBytes: number;
  readonly pidsMax: number;
  readonly cpus: number;
  readonly openFilesMax: number;
  readonly workspaceBytes: number;
  readonly workspaceInodes: number;
  readonly tmpBytes: number;
  readonly homeBytes: number;
  readonly shmBytes: number;
}

const MiB = 1024 * 1024;

export const defaultLimits: SandboxLimits = {
  memoryBytes: 2048 * MiB,
  pidsMax: 512,
  cpus: 2,
  openFilesMax: 4096,
  workspaceBytes: 1024 * MiB,
  workspaceInodes: 262_144,
  tmpBytes: 256 * MiB,
  homeBytes: 128 * MiB,
  shmBytes: 64 * MiB,
};

const supervisorDirectory = '/.glovebox';
/** What must be left for processes when every file system is full. */
const headroomBytes = 64 * MiB;
const runBytes = 4 * MiB;
const inodeBytes = 4096;

const seccomp = JSON.stringify(seccompProfile());

/** The container of a sandbox: everything that can be fixed about it before it exists. */
export function containerBody(spec: SandboxSpec, supervisorVolume: string): ContainerSpec {
  const { limits } = spec;
  checkLimits(limits, spec.workspaceVolume === undefined);
  const tmpfs = fileSystems(spec);
  return {
    name: `glovebox-${spec.id}`,
    image: spec.image,
    labels: spec.labels,
    argv: [`${supervisorDirectory}/supervisor`, ...tmpfs.flatMap(modeArgument), ...processesArgument(spec)],
    env: [],
    runtime: spec.runtime,
    workdir: '/',
    hostname: 'glovebox',
    limits: {
      memoryBytes: limits.memoryBytes,
      pidsMax: spec.runtime === 'runsc' ? gvisorTasks(limits.pidsMax) : limits.pidsMax,
      cpus: limits.cpus,
      openFilesMax: limits.openFilesMax,
      shmBytes: limits.shmBytes,
    },
    tmpfs,
    volumes: [
      { name: supervisorVolume, target: supervisorDirectory, kind: 'files' },
      ...(spec.workspaceVolume === undefined
        ? []
        : [{ name: spec.workspaceVolume, target: workspace, kind: 'overlay' } as const]),
      ...(spec.inputs ?? []),
    ],
    ...(spec.egress === true ? { lowPorts: true } : {}),
    seccomp,
  };
}

/** Where a tool may write, but for a workspace that is a volume; all of it is in memory and gone with the sandbox. */
function fileSystems(spec: SandboxSpec): ContainerSpec['tmpfs'] {
  const { limits } = spec;
  const inMemory = bounded(workspace, limits.workspaceBytes, limits.workspaceInodes, {
    ...rootOwner(spec),
    exec: true,
  });
  return [
    ...(spec.workspaceVolume === undefined ? [inMemory] : []),
    bounded('/tmp', limits.tmpBytes, inodesFor(limits.tmpBytes), { uid: 0, gid: 0, mode: 0o1777, exec: true }),
    bounded(home, limits.homeBytes, inodesFor(limits.homeBytes), {
      uid: toolUid,
      gid: toolGid,
      mode: 0o700,
      exec: true,
    }),
    bounded('/run', runBytes, 1024, { uid: 0, gid: 0, mode: 0o755, exec: false }),
  ];
}

/** runc gives a tmpfs the mode of the image's directory, whatever was asked for: the supervisor sets it once more. */
function modeArgument({ target, mode }: ContainerSpec['tmpfs'][number]): string[] {
  return ['--mode', `${mode.toString(8)}:${target}`];
}

/** gVisor counts the tools itself: its kernel falls, and the sandbox with it, when the host refuses it a thread. */
function processesArgument({ runtime, limits }: SandboxSpec): string[] {
  return runtime === 'runsc' ? ['--processes', String(limits.pidsMax)] : [];
}

/** What it needs on the host: four threads a process, and those of ended ones stay for a while, which a fork bomb makes many of. */
function gvisorTasks(pidsMax: number): number {
  return 24 * pidsMax + 1024;
}

function rootOwner({ workspaceRoot }: SandboxSpec): { uid: number; gid: number; mode: number } {
  const byTool = workspaceRoot?.owner === 'tool';
  return { uid: byTool ? toolUid : 0, gid: byTool ? toolGid : 0, mode: workspaceRoot?.mode ?? 0o755 };
}

/** A file system in memory that could outgrow the memory limit would be ended by the OOM killer, not by ENOSPC. */
function checkLimits(limits: SandboxLimits, workspaceInMemory: boolean): void {
  for (const [name, value] of Object.entries(limits)) {
    if (!Number.isFinite(value) || value <= 0 || (name !== 'cpus' && !Number.isSafeInteger(value)))
      throw new RunnerError('policy_unenforceable', `limit ${name} is ${value}; it must be a positive number`);
  }
  const workspaceBytes = workspaceInMemory ? limits.workspaceBytes : 0;
  const files = workspaceBytes + limits.tmpBytes + limits.homeBytes + limits.shmBytes + runBytes;
  if (limits.memoryBytes < files + headroomBytes)
    throw new RunnerError(
      'policy_unenforceable',
      `memoryBytes ${limits.memoryBytes} does not cover ${workspaceInMemory ? 'workspace, ' : ''}tmp, home and shm (${files} bytes, kept in memory) ` +
        `and ${headroomBytes} bytes for processes; raise memoryBytes to ${files + headroomBytes} or lower the others`,
    );
}

function bounded(
  target: string,
  sizeBytes: number,
  inodesMax: number,
  owner: { uid: number; gid: number; mode: number; exec: boolean },
): ContainerSpec['tmpfs'][number] {
  return { target, sizeBytes, inodesMax, ...owner };
}

function inodesFor(bytes: number): number {
  return Math.max(1024, Math.floor(bytes / inodeBytes));
}
