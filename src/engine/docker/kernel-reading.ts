import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { KernelReading, LimitReading, MountReading, PressureReading } from '../reading.ts';

/**
 * What the kernel of this machine has for a container: its control groups (v1 or v2) and what is mounted in it. Promises:
 *  - it is believed to be this container's only when its control group has the container's id in its name: a number of a process
 *    that was given to another one reads as nothing;
 *  - no path of the container is followed; what cannot be read is absent.
 */
export async function readKernel(
  pid: number,
  id: string,
  isKernelOfTools: boolean,
  places: Places = { processes: '/proc', groups: '/sys/fs/cgroup' },
): Promise<KernelReading | undefined> {
  const process = join(places.processes, String(pid));
  const groups = groupsOf(await textOf(join(process, 'cgroup')), id, places.groups);
  if (groups === undefined) return undefined;
  const [found, mounts] = await Promise.all([
    groups.kind === 'v2' ? readUnified(groups.at) : readSplit(groups.at),
    isKernelOfTools ? textOf(join(process, 'mountinfo')) : undefined,
  ]);
  return { ...found, ...(mounts === undefined ? {} : { mounts: mountsOf(mounts) }) };
}

type Groups =
  | { readonly kind: 'v2'; readonly at: string }
  | { readonly kind: 'v1'; readonly at: (controller: string) => string | undefined };

/** Where Linux shows them. */
interface Places {
  readonly processes: string;
  readonly groups: string;
}

const mountsMax = 1024;

function groupsOf(text: string | undefined, id: string, root: string): Groups | undefined {
  const lines = (text ?? '').split('\n').flatMap((line) => {
    const [, controllers = '', path = ''] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    return path.includes(id) && !path.split('/').includes('..') ? [{ controllers: controllers.split(','), path }] : [];
  });
  const split = (name: string): string | undefined => {
    const found = lines.find(({ controllers }) => controllers.includes(name));
    return found && join(root, name, found.path);
  };
  if (split('memory') !== undefined) return { kind: 'v1', at: split };
  const unified = lines.find(({ controllers }) => controllers.length === 1 && controllers[0] === '');
  return unified && { kind: 'v2', at: join(root, unified.path) };
}

async function readUnified(at: string): Promise<Pick<KernelReading, 'limits' | 'pressure'>> {
  const read = (name: string): Promise<string | undefined> => textOf(join(at, name));
  const names = ['memory.max', 'memory.swap.max', 'pids.max', 'cpu.max'] as const;
  const [memory, swap, pids, cpu] = await Promise.all(names.map(read));
  const [current, peak, events, tasks, hits, stat] = await Promise.all(
    ['memory.current', 'memory.peak', 'memory.events', 'pids.current', 'pids.events', 'cpu.stat'].map(read),
  );
  const waits = await Promise.all(['cpu.pressure', 'memory.pressure', 'io.pressure'].map(read));
  const memoryBytes = numberOf(memory);
  const swapBytes = numberOf(swap);
  const throttledUs = fieldOf(stat, 'throttled_usec');
  return {
    limits: known({
      memoryBytes,
      memorySwapBytes: memoryBytes === undefined || swapBytes === undefined ? undefined : memoryBytes + swapBytes,
      pidsMax: numberOf(pids),
      cpus: quotient(...((cpu ?? '').trim().split(' ') as readonly (string | undefined)[])),
    } satisfies Optional<LimitReading>),
    pressure: known({
      memoryBytes: numberOf(current),
      memoryPeakBytes: numberOf(peak),
      memoryLimitHits: fieldOf(events, 'max'),
      oomKills: fieldOf(events, 'oom_kill'),
      pids: numberOf(tasks),
      pidsLimitHits: fieldOf(hits, 'max'),
      cpuPeriods: fieldOf(stat, 'nr_periods'),
      cpuThrottledPeriods: fieldOf(stat, 'nr_throttled'),
      cpuThrottledMs: throttledUs === undefined ? undefined : Math.round(throttledUs / 1e3),
      cpuWaitPercent: waitOf(waits[0]),
      memoryWaitPercent: waitOf(waits[1]),
      ioWaitPercent: waitOf(waits[2]),
    } satisfies Optional<PressureReading>),
  };
}

async function readSplit(
  at: (controller: string) => string | undefined,
): Promise<Pick<KernelReading, 'limits' | 'pressure'>> {
  const read = async (controller: string, name: string): Promise<string | undefined> => {
    const directory = at(controller);
    return directory === undefined ? undefined : textOf(join(directory, `${controller}.${name}`));
  };
  const [limit, swap, current, peak, hits, oom] = await Promise.all(
    ['limit_in_bytes', 'memsw.limit_in_bytes', 'usage_in_bytes', 'max_usage_in_bytes', 'failcnt', 'oom_control'].map(
      (name) => read('memory', name),
    ),
  );
  const [pids, tasks, pidsHits] = await Promise.all(['max', 'current', 'events'].map((name) => read('pids', name)));
  const [quota, period, stat] = await Promise.all(
    ['cfs_quota_us', 'cfs_period_us', 'stat'].map((name) => read('cpu', name)),
  );
  const throttledNs = fieldOf(stat, 'throttled_time');
  return {
    limits: known({
      memoryBytes: boundOf(limit),
      memorySwapBytes: boundOf(swap),
      pidsMax: numberOf(pids),
      cpus: quotient(quota, period),
    } satisfies Optional<LimitReading>),
    pressure: known({
      memoryBytes: numberOf(current),
      memoryPeakBytes: numberOf(peak),
      memoryLimitHits: numberOf(hits),
      oomKills: fieldOf(oom, 'oom_kill'),
      pids: numberOf(tasks),
      pidsLimitHits: fieldOf(pidsHits, 'max'),
      cpuPeriods: fieldOf(stat, 'nr_periods'),
      cpuThrottledPeriods: fieldOf(stat, 'nr_throttled'),
      cpuThrottledMs: throttledNs === undefined ? undefined : Math.round(throttledNs / 1e6),
    } satisfies Optional<PressureReading>),
  };
}

export function known<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

type Optional<T> = { readonly [K in keyof T]?: T[K] | undefined };

/** Of version 1 no limit is the largest multiple of a page, which is no safe integer. */
function boundOf(text: string | undefined): number | undefined {
  const value = numberOf(text);
  return value !== undefined && Number.isSafeInteger(value) ? value : undefined;
}

function numberOf(text: string | undefined): number | undefined {
  const trimmed = text?.trim() ?? '';
  return /^\d+$/.test(trimmed) ? Number(trimmed) : undefined;
}

function fieldOf(text: string | undefined, name: string): number | undefined {
  return numberOf(new RegExp(`^${name} (\\d+)$`, 'm').exec(text ?? '')?.[1]);
}

function waitOf(text: string | undefined): number | undefined {
  const found = /^some avg10=(\d+\.\d+)/.exec(text ?? '')?.[1];
  return found === undefined ? undefined : Number(found);
}

/** No quota is `max`, or -1. */
function quotient(quota?: string, period?: string): number | undefined {
  const [of, by] = [numberOf(quota), numberOf(period)];
  return of === undefined || by === undefined || by === 0 ? undefined : of / by;
}

/** proc(5): `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`. */
function mountsOf(text: string): readonly MountReading[] {
  const mounts = text.split('\n', mountsMax).flatMap((line) => {
    const [before = '', after = ''] = line.split(' - ', 2);
    const [, , , , target, options = ''] = before.split(' ');
    const [kind, , ofKind = ''] = after.split(' ');
    if (target === undefined || kind === undefined) return [];
    const all = options.split(',');
    const kept = all.filter((option) => option.startsWith('no') && option !== 'noatime');
    const size = /(?:^|,)(size=[^,]+)/.exec(ofKind)?.[1];
    const said = [...kept, ...(size === undefined ? [] : [size])].sort().join(',');
    return [{ target: unescaped(target), kind, writable: !all.includes('ro'), options: said }];
  });
  return mounts.sort((a, b) => (a.target < b.target ? -1 : 1));
}

/** White space and backslashes are written in octal there. */
function unescaped(path: string): string {
  return path.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

async function textOf(path: string): Promise<string | undefined> {
  return readFile(path, 'latin1').catch(() => undefined);
}
