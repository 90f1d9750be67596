import { accessSync, constants, existsSync } from 'node:fs';
import { isRunnerError, messageOf } from '../errors.ts';
import type { Engine, EngineFacts, ImageFacts, Labels, VolumeKind } from './engine.ts';

/** One thing an engine can or cannot do, what that means, and how to get it. */
export interface Check {
  readonly id: string;
  /** `limited`: it works, but a promise is weaker or could not be tried out. */
  readonly ok: 'yes' | 'no' | 'limited';
  readonly found: string;
  readonly means: string;
  /** Empty when there is nothing to do. */
  readonly remedy: string;
}

export interface Diagnosis {
  /** Whether sandboxes can run here at all. */
  readonly usable: boolean;
  readonly facts: EngineFacts | undefined;
  readonly checks: readonly Check[];
}

export interface DiagnoseOptions {
  /** Carried by the container that tries gVisor out, so that `collect` finds it after a crash. */
  readonly labels?: Labels;
  /** The supervisor's program on this machine; checked when given. */
  readonly supervisorPath?: string;
  /** Images a run may ask for, by reference; checked when given. */
  readonly images?: readonly string[];
}

/** Looks at an engine, or at the error that finding one ended with. Never throws. */
export async function diagnose(engine: Engine | Error, options: DiagnoseOptions = {}): Promise<Diagnosis> {
  if (engine instanceof Error) return unreachable(engine, options);
  try {
    const facts = await engine.describe();
    const images = await imagesOf(engine);
    const checks = [
      reachable(facts),
      ...limitsOf(facts),
      ...confinementOf(facts),
      await gvisor(engine, facts, images, options.labels ?? {}),
      await overlay(engine, facts, images),
      await diskBound(engine, facts, images),
      clock(facts),
      ...supervisor(options),
      ...(options.images ?? []).map((reference) => imagePresent(reference, images)),
    ];
    return { usable: checks.every((check) => check.ok !== 'no' || !required.has(check.id)), facts, checks };
  } catch (error) {
    return unreachable(error, options);
  }
}

/** A line a check, and below it what to do where something is missing. */
export function diagnosisLines(diagnosis: Diagnosis): readonly string[] {
  const width = Math.max(...diagnosis.checks.map((check) => check.id.length));
  return diagnosis.checks.flatMap((check) => {
    const line = `${check.ok.padEnd(7)}  ${check.id.padEnd(width)}  ${check.found}`;
    const indent = ' '.repeat(9 + width + 2);
    if (check.ok === 'yes') return [line];
    return [line, `${indent}${check.means}`, ...(check.remedy === '' ? [] : [`${indent}${check.remedy}`])];
  });
}

/** Without these no sandbox starts: the rest is refused only to those that ask for it. */
const required = new Set(['engine', 'memory', 'swap', 'pids', 'cpu', 'seccomp', 'supervisor']);

function unreachable(error: unknown, options: DiagnoseOptions): Diagnosis {
  const found = messageOf(error);
  const means = 'No sandbox can run.';
  const remedy = isRunnerError(error) ? '' : 'See the cause above; `make engine` installs or starts one.';
  const checks: Check[] = [{ id: 'engine', ok: 'no', found, means, remedy }, ...supervisor(options)];
  return { usable: false, facts: undefined, checks };
}

function reachable(facts: EngineFacts): Check {
  const where = facts.local ? 'on this machine' : 'not on this machine, or in a virtual machine';
  const rootless = facts.rootless ? ', rootless' : '';
  return {
    id: 'engine',
    ok: facts.kind === 'fake' ? 'limited' : 'yes',
    found: `${facts.kind} ${facts.version} (API ${facts.apiVersion}) at ${facts.endpoint}, ${where}${rootless}; ${facts.os}, Linux ${facts.kernel}, ${facts.architecture}`,
    means: facts.kind === 'fake' ? 'A stand-in for tests; it confines nothing.' : 'Sandboxes can be started.',
    remedy: '',
  };
}

function limitsOf(facts: EngineFacts): readonly Check[] {
  const { enforces, cgroupVersion } = facts;
  const rootlessCgroups =
    'Rootless engines need cgroup v2 with delegated controllers (systemd: Delegate=cpu cpuset io memory pids).';
  const remedy = (otherwise: string): string => (facts.rootless ? rootlessCgroups : otherwise);
  return [
    {
      id: 'cgroups',
      ok: cgroupVersion === undefined ? 'no' : 'yes',
      found: cgroupVersion === undefined ? 'the engine does not say' : `version ${cgroupVersion}`,
      means: 'Limits are held by control groups.',
      remedy: cgroupVersion === undefined ? 'Use an engine with API 1.41 or newer.' : '',
    },
    limit('memory', enforces.memory, 'memory of a sandbox', remedy('Boot with cgroup_enable=memory.')),
    limit(
      'swap',
      enforces.swap,
      'swap of a sandbox',
      remedy('Boot with swapaccount=1, or turn swap off and use cgroup v2.'),
    ),
    limit('pids', enforces.pids, 'number of processes (fork bombs)', remedy('Use a kernel with CONFIG_CGROUP_PIDS.')),
    limit('cpu', enforces.cpu, 'processor time', remedy('Use a kernel with CONFIG_CFS_BANDWIDTH.')),
  ];
}

function limit(id: string, enforced: boolean, what: string, remedy: string): Check {
  return {
    id,
    ok: enforced ? 'yes' : 'no',
    found: enforced ? 'enforced' : 'not enforced',
    means: enforced ? `The ${what} is bounded.` : `The ${what} would not be bounded: sandboxes are refused.`,
    remedy: enforced ? '' : remedy,
  };
}

function confinementOf(facts: EngineFacts): readonly Check[] {
  const { seccomp, userNamespace } = facts.enforces;
  return [
    {
      id: 'seccomp',
      ok: seccomp ? 'yes' : 'no',
      found: seccomp ? 'profiles are applied' : 'not supported',
      means: seccomp
        ? 'Our own profile filters system calls.'
        : 'System calls would not be filtered: sandboxes are refused.',
      remedy: seccomp ? '' : 'Use a kernel and an engine built with seccomp.',
    },
    {
      id: 'user-namespaces',
      ok: userNamespace ? 'yes' : 'limited',
      found: userNamespace ? 'root in a container is nobody outside' : 'root in a container is root outside',
      means:
        'PID 1 alone is root and holds four capabilities; tools are never root. A user namespace is one more wall.',
      remedy: userNamespace
        ? ''
        : 'Set "userns-remap": "default" in /etc/docker/daemon.json, or run the engine rootless.',
    },
  ];
}

async function gvisor(
  engine: Engine,
  facts: EngineFacts,
  images: readonly ImageFacts[],
  labels: Labels,
): Promise<Check> {
  const check = { id: 'gvisor', means: 'Policies may ask for `runtime: runsc`, a kernel of its own for each sandbox.' };
  const without = { ...check, means: 'Policies that ask for `runtime: runsc` are refused.' };
  if (!facts.runtimes.includes('runsc')) {
    const remedy =
      'Install runsc, name it under "runtimes" in /etc/docker/daemon.json, and restart the engine: https://gvisor.dev/docs/user_guide/install/.';
    return { ...without, ok: 'limited', found: 'runsc is not a runtime of this engine', remedy };
  }
  if (!facts.enforces.gvisor) {
    const found = 'runsc is listed with --ignore-cgroups: it would hold no limit';
    return {
      ...without,
      ok: 'limited',
      found,
      remedy: 'Take --ignore-cgroups out of its runtimeArgs in /etc/docker/daemon.json.',
    };
  }
  const [image] = images;
  if (image === undefined)
    return { ...check, ok: 'limited', found: 'runsc is listed; not tried: there is no image', remedy: 'make images' };
  const failure = await failureOf(() => tryRunsc(engine, image.id, labels));
  if (failure === undefined)
    return { ...check, ok: 'yes', found: 'runsc is listed, and a container ran under it', remedy: '' };
  const remedy = 'Try `docker run --runtime=runsc`; without KVM it needs "runtimeArgs": ["--platform=ptrace"].';
  return { ...without, ok: 'limited', found: `runsc is listed and does not start: ${failure}`, remedy };
}

/** A program that no image has: gVisor has started once it says so. */
async function tryRunsc(engine: Engine, image: string, labels: Labels): Promise<void> {
  const program = '/glovebox-doctor';
  const name = `glovebox-doctor-${process.pid}-${Date.now().toString(36)}`;
  const limits = { memoryBytes: 256 * 1024 * 1024, pidsMax: 512, cpus: 1, openFilesMax: 1024, shmBytes: 65_536 };
  try {
    const started = await engine.start({
      name,
      image,
      labels,
      argv: [program],
      env: [],
      runtime: 'runsc',
      workdir: '/',
      hostname: 'doctor',
      limits,
      tmpfs: [],
      volumes: [],
      seccomp: JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW' }),
    });
    started.stream.duplex.on('error', () => undefined);
    started.stream.duplex.destroy();
    await engine.destroy(started.id);
  } catch (error) {
    if (!isRunnerError(error, 'supervisor_missing')) throw error;
  }
}

async function overlay(engine: Engine, facts: EngineFacts, images: readonly ImageFacts[]): Promise<Check> {
  const works = 'Workspaces can be layers over a shared base: opened in milliseconds whatever their size.';
  const fails = 'Workspaces are copied into each sandbox: the same result, slower for large trees.';
  const check = { id: 'overlay-volumes' };
  if (!facts.local || process.getuid?.() !== 0) {
    const found = facts.local ? 'not tried: this process is not root' : 'not tried: the engine is elsewhere';
    return {
      ...check,
      ok: 'limited',
      found,
      means: fails,
      remedy: facts.local ? 'Run the runner as root to use them.' : '',
    };
  }
  const trial = await tryOut(engine, 'overlay', images);
  return {
    ...check,
    ok: trial.works ? 'yes' : 'limited',
    found: trial.detail,
    means: trial.works ? works : fails,
    remedy: trial.remedy,
  };
}

async function diskBound(engine: Engine, facts: EngineFacts, images: readonly ImageFacts[]): Promise<Check> {
  const trial = await tryOut(engine, 'bounded', images);
  const loop = facts.local && process.getuid?.() === 0 && canUseLoopImages();
  return {
    id: 'disk-bound',
    ok: trial.works || loop ? 'yes' : 'limited',
    found: `volume in memory with a size: ${trial.detail}; loop images: ${loop ? 'possible' : 'not possible (needs root, a local engine and /dev/loop-control)'}`,
    means: 'What a sandbox writes is bounded: by its tmpfs always, on disk where loop images are possible.',
    remedy: trial.works ? '' : trial.remedy,
  };
}

async function tryOut(
  engine: Engine,
  kind: VolumeKind,
  images: readonly ImageFacts[],
): Promise<{ works: boolean; detail: string; remedy: string }> {
  const [image] = images;
  if (image === undefined) return { works: false, detail: 'not tried: there is no image', remedy: 'make images' };
  try {
    return { ...(await engine.tryVolume(kind, image.id)), remedy: '' };
  } catch (error) {
    return { works: false, detail: messageOf(error), remedy: '' };
  }
}

function canUseLoopImages(): boolean {
  const mkfs = ['/sbin/mkfs.ext4', '/usr/sbin/mkfs.ext4'].some((path) => existsSync(path));
  return existsSync('/dev/loop-control') && mkfs;
}

/** Runs and approvals are dated by the runner; the engine's dates are only compared with themselves. */
const clockSkewMaxMs = 2_000;

function clock(facts: EngineFacts): Check {
  const { clockSkewMs } = facts;
  const near = clockSkewMs !== undefined && Math.abs(clockSkewMs) <= clockSkewMaxMs;
  return {
    id: 'clock',
    ok: near ? 'yes' : 'limited',
    found:
      clockSkewMs === undefined
        ? 'the engine does not say'
        : `the engine is ${Math.abs(clockSkewMs)} ms ${clockSkewMs < 0 ? 'behind' : 'ahead'}`,
    means: 'Dates inside a sandbox and in the journal differ by that much; no deadline depends on it.',
    remedy: near ? '' : 'Synchronise the clocks of both machines (NTP).',
  };
}

function supervisor(options: DiagnoseOptions): readonly Check[] {
  const path = options.supervisorPath;
  if (path === undefined) return [];
  const check = { id: 'supervisor', means: 'It is PID 1 of every sandbox.' };
  try {
    accessSync(path, constants.R_OK);
    return [{ ...check, ok: 'yes', found: path, remedy: '' }];
  } catch {
    return [{ ...check, ok: 'no', found: `${path} is missing`, remedy: 'make supervisor' }];
  }
}

function imagePresent(reference: string, images: readonly ImageFacts[]): Check {
  const image = images.find((found) => found.id === reference || found.tags.includes(reference));
  return {
    id: `image ${reference}`,
    ok: image === undefined ? 'limited' : 'yes',
    found: image?.id ?? 'not there',
    means: image === undefined ? 'Runs that ask for it are refused.' : 'Runs may use it.',
    remedy: image === undefined ? 'make images' : '',
  };
}

async function imagesOf(engine: Engine): Promise<readonly ImageFacts[]> {
  try {
    return await engine.images();
  } catch {
    return [];
  }
}

async function failureOf(work: () => Promise<void>): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}
