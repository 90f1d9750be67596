import type { ContainerReading, LimitReading, MountReading } from '../reading.ts';
import type { ContainerAnswer } from './answers.ts';
import { stateOf } from './containers.ts';
import { known, readKernel } from './kernel-reading.ts';

/** What the engine says of a container, and the kernel where `canLook`. */
export async function readingOf(answer: ContainerAnswer, canLook: boolean): Promise<ContainerReading> {
  const { State } = answer;
  const said = saidOf(answer);
  const kernel = canLook && State.Pid ? await readKernel(State.Pid, answer.Id, said.runtime === 'runc') : undefined;
  return { ...said, ...(kernel === undefined ? {} : { kernel }) };
}

/** What the engine says of it. */
export function saidOf(answer: ContainerAnswer): ContainerReading {
  const { HostConfig } = answer;
  return {
    state: stateOf(answer),
    image: answer.Image,
    runtime: textOf(HostConfig['Runtime']),
    limits: limitsOf(HostConfig),
    networks: Object.keys(answer.NetworkSettings.Networks ?? {}).sort(),
    mounts: mountsOf(answer),
    execs: answer.ExecIDs?.length ?? 0,
  };
}

/** Zero and less are the engine's words for unlimited. `docker update` sets a quota where `create` was given processors. */
function limitsOf(host: ContainerAnswer['HostConfig']): LimitReading {
  const quota = numberOf(host['CpuQuota']);
  const period = numberOf(host['CpuPeriod']) ?? 100_000;
  const nano = numberOf(host['NanoCpus']);
  const cpus = nano === undefined ? (quota === undefined ? undefined : quota / period) : nano / 1e9;
  return known({
    memoryBytes: numberOf(host['Memory']),
    memorySwapBytes: numberOf(host['MemorySwap']),
    pidsMax: numberOf(host['PidsLimit']),
    cpus,
    openFilesMax: openFilesOf(host['Ulimits']),
    shmBytes: numberOf(host['ShmSize']),
  });
}

function numberOf(value: unknown): number | undefined {
  return typeof value === 'number' && value > 0 ? value : undefined;
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function openFilesOf(ulimits: unknown): number | undefined {
  if (!Array.isArray(ulimits)) return undefined;
  for (const limit of ulimits as readonly unknown[]) {
    const { Name, Hard } = (limit ?? {}) as { readonly Name?: unknown; readonly Hard?: unknown };
    if (Name === 'nofile') return numberOf(Hard);
  }
  return undefined;
}

function mountsOf({ HostConfig, Mounts }: ContainerAnswer): readonly MountReading[] {
  const tmpfs = Object.entries((HostConfig['Tmpfs'] ?? {}) as Readonly<Record<string, unknown>>);
  return [
    { target: '/', kind: 'root', writable: HostConfig['ReadonlyRootfs'] !== true, options: '' },
    ...Mounts.map(({ Type, Destination, RW }) => ({ target: Destination, kind: Type, writable: RW, options: '' })),
    ...tmpfs.map(([target, options]) => {
      const all = textOf(options).split(',');
      const left = all.filter((option) => option !== 'rw' && option !== 'ro').sort();
      return { target, kind: 'tmpfs', writable: !all.includes('ro'), options: left.join(',') };
    }),
  ].sort((a, b) => (a.target < b.target ? -1 : 1));
}
