import { accessSync, constants } from 'node:fs';
import { isRunnerError, messageOf } from '../errors.ts';
import type { Check } from './check.ts';
import type { Engine, EngineFacts, ImageFacts, Labels } from './engine.ts';
import { trials } from './trials.ts';

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
    const enforced = [reachable(facts), ...lacking(facts), ...limitsOf(facts), ...confinementOf(facts)];
    const checks = [
      ...enforced,
      // Where every sandbox is refused there is nothing to try.
      ...(isUsable(enforced) ? await trials(engine, facts, images, options.labels ?? {}) : []),
      clock(facts),
      ...supervisor(options),
      ...(await Promise.all((options.images ?? []).map((reference) => imagePresent(engine, reference)))),
    ];
    return { usable: isUsable(checks), facts, checks };
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
const required = new Set(['engine', 'requests', 'memory', 'swap', 'pids', 'cpu', 'seccomp', 'supervisor']);

function isUsable(checks: readonly Check[]): boolean {
  return checks.every((check) => check.ok !== 'no' || !required.has(check.id));
}

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

function lacking({ kind, version, lacks }: EngineFacts): readonly Check[] {
  if (lacks.length === 0) return [];
  return [
    {
      id: 'requests',
      ok: 'no',
      found: `${kind} ${version} cannot be asked for ${lacks.join('; for ')}`,
      means: 'Sandboxes would be weaker than they say: they are refused.',
      remedy:
        'Use Docker Engine (Debian, Ubuntu: `sudo make engine`; others: https://docs.docker.com/engine/install/); ' +
        'unset DOCKER_HOST or point it there. Both engines can be installed side by side.',
    },
  ];
}

function limitsOf(facts: EngineFacts): readonly Check[] {
  const { enforces, rootless } = facts;
  const delegated =
    'Delegate the controllers: "Delegate=cpu cpuset io memory pids" under [Service] in ' +
    '/etc/systemd/system/user@.service.d/delegate.conf, then log in again.';
  const byCgroups = facts.cgroupVersion === 2 ? delegated : 'See cgroups above.';
  const remedy = (otherwise: string): string => (rootless ? byCgroups : otherwise);
  return [
    cgroups(facts),
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

function cgroups({ cgroupVersion, rootless }: EngineFacts): Check {
  const check = { id: 'cgroups', means: 'Limits are held by control groups.' };
  if (cgroupVersion === undefined)
    return {
      ...check,
      ok: 'no',
      found: 'the engine does not say',
      remedy: 'Use an engine with API 1.41 or newer.',
    };
  if (rootless && cgroupVersion === 1) {
    const remedy =
      'Boot with cgroup v2 (kernel argument systemd.unified_cgroup_hierarchy=1), or use an engine that runs as root.';
    return { ...check, ok: 'no', found: 'version 1, under which a rootless engine sets no limit', remedy };
  }
  return { ...check, ok: 'yes', found: `version ${cgroupVersion}`, remedy: '' };
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
        : 'Set "userns-remap": "default" in /etc/docker/daemon.json, or run the engine rootless (needs cgroup v2).',
    },
  ];
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

async function imagePresent(engine: Engine, reference: string): Promise<Check> {
  const image = await engine.findImage(reference);
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
