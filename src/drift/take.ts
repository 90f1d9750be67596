import { cpus } from 'node:os';
import { canonicalJson, digestOf, type Digest } from '../digest.ts';
import type { Engine, EngineFacts } from '../engine/engine.ts';
import type { ContainerReading, LimitReading, PressureReading } from '../engine/reading.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import { containerBody } from '../sandbox/container-body.ts';
import { callEnvironment, workspace } from '../sandbox/environment.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import { environmentSections } from './environment-sections.ts';
import { fingerprintOf, sectionFrom, sectionOf, type Fingerprint, type Section, type Sections } from './fingerprint.ts';
import { engineFiles, lookAtInstalled, type Installed } from './installed.ts';
import type { InstalledMemory } from './installed-memory.ts';
import { lookAtLockfiles } from './lockfiles.ts';
import { placeOf, type Place } from './place.ts';

/** An open sandbox, and what its run knows of it. */
export interface Taking {
  readonly sandbox: Pick<Sandbox, 'spec' | 'containerId' | 'files' | 'list' | 'probe'>;
  readonly engine: Pick<Engine, 'read' | 'describe'>;
  readonly installed: InstalledMemory;
  readonly image: { readonly reference: string; readonly id: Digest };
  /** As it holds now: narrowed, at the present risk. */
  readonly policy: LoadedPolicy;
  /** Rules, profiles and upstreams that were taken away since, and credentials that were revoked. */
  readonly without: readonly string[];
  /** `NAME=value`: all that a command gets. */
  readonly env: readonly string[];
  /** Names in it whose values are of one run alone. */
  readonly ofRun: readonly string[];
  readonly base: Base;
}

interface Base {
  readonly kind: string;
  readonly digest: Digest;
  readonly strategy: string;
  readonly commit?: string | undefined;
  readonly below?: string | undefined;
}

/**
 * A look at the environment of a sandbox. Promises:
 *  - what can be known from outside is: the engine's reading, the kernel's where we can look, what the runner itself has given;
 *    inside only files are looked at, by verbs of the supervisor, and no program of the image runs;
 *  - what an image has installed is looked at once an image and runtime;
 *  - nothing inside is changed by it.
 *
 * Rejects when the sandbox cannot be used any more.
 */
export async function takeFingerprint(taking: Taking): Promise<Fingerprint> {
  const { sandbox, engine, image, policy } = taking;
  const place = placeOf(sandbox.files);
  const known = taking.installed.of(image.id, sandbox.spec.runtime, () => lookAtInstalled(place, standardPath()));
  const [facts, reading, installed, clock, processes, network, lockfiles] = await Promise.all([
    engine.describe(),
    engine.read(sandbox.containerId),
    known,
    clockOf(sandbox),
    processesOf(sandbox),
    networkOf(sandbox, place),
    lookAtLockfiles(place, workspace, async () => pythonOf(await known)),
  ]);
  const { packages, system_files, tools, users } = installed;
  const sections: Sections = {
    image: sectionFrom({ id: image.id, reference: image.reference, environment: environmentOf(image.reference) }),
    packages,
    system_files,
    tools,
    users,
    ...environmentSections(taking.env, taking.ofRun, installed),
    clock: sectionFrom({ skew_ms: clock, engine_skew_ms: facts.clockSkewMs }),
    kernel: sectionFrom({ release: facts.kernel, os: facts.os }),
    engine: engineOf(facts),
    runtime: sectionFrom({ name: reading?.runtime ?? sandbox.spec.runtime }),
    limits: limitsOf(taking, reading),
    cpu: cpuOf(facts),
    egress: egressOf(taking),
    policy: sectionFrom({ name: policy.policy.name, digest: policy.digest }),
    base: sectionFrom({ ...taking.base }),
    lockfiles,
    ...(reading === undefined ? {} : readSections(reading, network)),
    processes,
  };
  return fingerprintOf('sandbox', new Date(), sections);
}

/** The name of an environment says what it is made of. */
function environmentOf(reference: string): string | undefined {
  return /^env-[0-9a-f]{16}$/.test(reference) ? reference : undefined;
}

function readSections(reading: ContainerReading, network: ReadonlyMap<string, string>): Sections {
  const mounts = new Map<string, string>();
  for (const { target, kind, writable, options } of reading.mounts)
    mounts.set(target, [kind, writable ? 'rw' : 'ro', options].join(' ').trim());
  for (const { target, kind, writable, options } of reading.kernel?.mounts ?? [])
    mounts.set(`kernel ${target}`, [kind, writable ? 'rw' : 'ro', options].join(' ').trim());
  return {
    mounts: sectionOf(mounts),
    network: sectionOf(new Map([['engine.networks', reading.networks.join(' ')], ...network])),
    ...(reading.kernel === undefined ? {} : { pressure: sectionFrom(pressureOf(reading.kernel.pressure)) }),
  };
}

export function engineOf({ kind, version, storageDriver, cgroupVersion, rootless }: EngineFacts): Section {
  return sectionFrom({ kind, version, storage: storageDriver, cgroup: cgroupVersion, rootless });
}

/** `asked`, by us; `engine`, what it says that holds; `kernel`, what does. */
function limitsOf({ sandbox: { spec } }: Taking, reading: ContainerReading | undefined): Section {
  const asked = limitNames(containerBody(spec, '').limits, 'asked');
  const { workspaceBytes, workspaceInodes, tmpBytes, homeBytes, pidsMax } = spec.limits;
  return sectionFrom({
    ...asked,
    'asked.processes': pidsMax,
    'asked.workspace_bytes': workspaceBytes,
    'asked.workspace_inodes': workspaceInodes,
    'asked.tmp_bytes': tmpBytes,
    'asked.home_bytes': homeBytes,
    ...limitNames(reading?.limits ?? {}, 'engine'),
    ...limitNames(reading?.kernel?.limits ?? {}, 'kernel'),
  });
}

function limitNames(limits: LimitReading, by: string): Readonly<Record<string, number | undefined>> {
  return {
    [`${by}.memory_bytes`]: limits.memoryBytes,
    [`${by}.memory_swap_bytes`]: limits.memorySwapBytes,
    [`${by}.pids`]: limits.pidsMax,
    [`${by}.cpus`]: limits.cpus,
    [`${by}.open_files`]: limits.openFilesMax,
    [`${by}.shm_bytes`]: limits.shmBytes,
  };
}

function pressureOf(pressure: PressureReading): Readonly<Record<string, number | undefined>> {
  return {
    memory_bytes: pressure.memoryBytes,
    memory_peak_bytes: pressure.memoryPeakBytes,
    memory_limit_hits: pressure.memoryLimitHits,
    oom_kills: pressure.oomKills,
    pids: pressure.pids,
    pids_limit_hits: pressure.pidsLimitHits,
    cpu_periods: pressure.cpuPeriods,
    cpu_throttled_periods: pressure.cpuThrottledPeriods,
    cpu_throttled_ms: pressure.cpuThrottledMs,
    cpu_wait_percent: pressure.cpuWaitPercent,
    memory_wait_percent: pressure.memoryWaitPercent,
    io_wait_percent: pressure.ioWaitPercent,
  };
}

/** Another machine says how many processors it has, and not which. */
function cpuOf({ local, architecture, cpus: cores }: EngineFacts): Section {
  return sectionFrom({ architecture, cores, model: local ? cpus()[0]?.model : undefined });
}

function egressOf({ policy: { policy }, without }: Taking): Section {
  const { rules, deny, upstreams, ...rest } = policy.egress;
  const found = new Map([
    ['rest', digestOf(canonicalJson(rest))],
    ...[...rules, ...deny, ...upstreams].map((rule) => [rule.id, digestOf(canonicalJson(rule))] as const),
    ...without.map((name) => [`without ${name}`, ''] as const),
  ]);
  return sectionOf(found, 512);
}

/** The kernel stamps what it makes up in /proc with its own time, to a few milliseconds. Ours is taken before and after. */
async function clockOf({ files }: Pick<Sandbox, 'files'>): Promise<number | undefined> {
  const beforeMs = Date.now();
  const entry = await files.stat('/proc/self/stat', { follow: true }).catch(() => undefined);
  const middleMs = (beforeMs + Date.now()) / 2;
  return entry === undefined ? undefined : Math.round(Number(entry.mtimeNs / 1_000_000n) - middleMs);
}

const processesMax = 64;

/** Calls that have processes, in the supervisor's words. What looks is not among them. */
async function processesOf(sandbox: Pick<Sandbox, 'list'>): Promise<Section> {
  const calls = (await sandbox.list()).filter(({ id, processes }) => id !== undefined && processes > 0);
  return sectionOf(
    new Map(calls.map(({ id, state, processes }) => [`call ${id ?? ''}`, `${state}, ${processes} processes`])),
    processesMax,
  );
}

/** Interfaces that a tool would see, and how names are found. */
async function networkOf(sandbox: Pick<Sandbox, 'probe'>, place: Place): Promise<ReadonlyMap<string, string>> {
  const [{ interfaces }, ...files] = await Promise.all([
    sandbox.probe([{ kind: 'tcp', address: '127.0.0.1', port: 1, timeoutMs: 500 }]),
    ...engineFiles.map(async (path) => [path, (await place.digest(path)) ?? 'absent'] as const),
  ]);
  const flags = interfaces.map((one) => [`interface ${one.name}`, `flags 0x${one.flags.toString(16)}`] as const);
  return new Map([...flags, ...files]);
}

/** Of a policy's own PATH some may be written by those who are looked at; what is remembered holds for all runs on an image. */
function standardPath(): readonly string[] {
  const path = callEnvironment({}).find((variable) => variable.startsWith('PATH=')) ?? '';
  return path.slice('PATH='.length).split(':');
}

/** Python packages of the image, for lockfiles without an environment of their own. */
export function pythonOf({ packages }: Installed): ReadonlyMap<string, string> {
  const all = Object.entries(packages.evidence);
  return new Map(all.flatMap(([name, version]) => (name.startsWith('python:') ? [[name.slice(7), version]] : [])));
}
