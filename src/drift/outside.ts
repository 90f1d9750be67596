import type { ContainerReading, LimitReading, MountReading } from '../engine/reading.ts';
import type { DriftKind } from '../policy/language/drift.ts';
import { insteadText, shown, type DriftFinding } from './findings.ts';
import { sizeText } from './moments.ts';

/** What somebody who holds the engine has made of a container, from one reading to the next; pure. Undefined: it is gone. */
export function outsideFindings(before: ContainerReading, now: ContainerReading | undefined): readonly DriftFinding[] {
  if (now === undefined) return [finding('engine', 'status', 'running', 'gone', 'somebody has removed the container')];
  return [
    ...stateFindings(before, now),
    ...limitFindings(before.limits, now.limits),
    ...listFindings(before.networks, now.networks).map(([expected, found]) => networkFinding(expected, found)),
    ...mountFindings(before.mounts, now.mounts),
    ...(now.execs > before.execs ? [execFinding(now.execs)] : []),
  ];
}

/** Of one that was lost: whoever ended it did not ask the runner. */
export function lossFinding(reason: string): DriftFinding {
  const text = `the container ended, and nobody here has ended it: ${shown(reason)}`;
  return finding('engine', 'status', 'running', 'lost', text);
}

/** It was proven to have none. */
export function unsealedFinding(reason: string): DriftFinding {
  return finding(
    'egress',
    'way out',
    undefined,
    'found',
    `somebody has given the container a way out: ${shown(reason)}`,
  );
}

/** Nobody can say that nothing was done to it. */
export function unlookedFinding(reason: string): DriftFinding {
  const text = `nobody could ask whether somebody has changed the container: ${shown(reason)}`;
  return finding('engine', 'look', 'an answer', undefined, text);
}

function stateFindings({ state: before }: ContainerReading, { state: now }: ContainerReading): readonly DriftFinding[] {
  const of = (key: string, expected: string | undefined, found: string | undefined, text: string): DriftFinding =>
    finding('engine', key, expected, found, text);
  const renamed =
    before.name === now.name
      ? []
      : [of('name', before.name, now.name, `somebody has given the container another name: ${shown(now.name)}`)];
  if (now.status === 'paused')
    return [...renamed, of('status', 'running', 'paused', 'somebody has paused the container: nothing in it goes on')];
  if (now.status !== 'running') {
    const found = `exited ${now.exitCode ?? ''}`.trim();
    const text =
      now.exitCode === 137
        ? 'somebody has killed the container'
        : `the container has ended by itself, or was stopped (${found})`;
    return [...renamed, of('status', 'running', found, text)];
  }
  if (before.startedAt === now.startedAt) return renamed;
  const text = 'somebody has restarted the container: what ran in it is gone';
  return [...renamed, of('started', before.startedAt, now.startedAt, text)];
}

const limitNames: Readonly<Record<keyof LimitReading, readonly [key: string, name: string]>> = {
  memoryBytes: ['memory_bytes', 'memory'],
  memorySwapBytes: ['memory_swap_bytes', 'memory and swap'],
  pidsMax: ['pids', 'processes'],
  cpus: ['cpus', 'processors'],
  openFilesMax: ['open_files', 'open files'],
  shmBytes: ['shm_bytes', 'shared memory'],
};

function limitFindings(before: LimitReading, now: LimitReading): readonly DriftFinding[] {
  return (Object.keys(limitNames) as (keyof LimitReading)[]).flatMap((limit) => {
    const [was, is] = [before[limit], now[limit]];
    if (was === is) return [];
    const [key, name] = limitNames[limit];
    const text = (value: number | undefined): string =>
      value === undefined ? 'unlimited' : key.endsWith('bytes') ? sizeText(value) : `${value}`;
    const line = `somebody has changed the limits of the container: ${name} is ${text(is)} instead of ${text(was)}`;
    const [expected, found] = [was, is].map((value) => (value === undefined ? undefined : `${value}`));
    return [finding('resource_pressure', `engine.${key}`, expected, found, line)];
  });
}

function networkFinding(expected: string | undefined, found: string | undefined): DriftFinding {
  const text =
    found === undefined
      ? `somebody has taken the container off the network ${shown(expected ?? '')}`
      : `somebody has connected the container to the network ${shown(found)}: there is a way out past the runner`;
  return finding('egress', `network ${expected ?? found ?? ''}`, expected, found, text);
}

function mountFindings(before: readonly MountReading[], now: readonly MountReading[]): readonly DriftFinding[] {
  const told = ({ target, kind, writable, options }: MountReading): string =>
    [target, kind, writable ? 'rw' : 'ro', options].filter((part) => part !== '').join(' ');
  return listFindings(before.map(told), now.map(told)).map(([expected, found]) => {
    const text = `a mount of the container is ${insteadText(expected, found)}`;
    return finding('mount', (found ?? expected ?? '').split(' ', 1)[0] ?? '', expected, found, text);
  });
}

function execFinding(execs: number): DriftFinding {
  const text = `somebody has started ${execs === 1 ? 'a program' : `${execs} programs`} in the container, past the runner`;
  return finding('process_left', 'execs', '0', `${execs}`, text);
}

/** What is only in the one or only in the other. */
function listFindings(
  before: readonly string[],
  now: readonly string[],
): readonly (readonly [string | undefined, string | undefined])[] {
  return [
    ...now.filter((one) => !before.includes(one)).map((one) => [undefined, one] as const),
    ...before.filter((one) => !now.includes(one)).map((one) => [one, undefined] as const),
  ];
}

function finding(
  kind: DriftKind,
  key: string,
  expected: string | undefined,
  found: string | undefined,
  text: string,
): DriftFinding {
  return { kind, source: 'container', key, expected, found, text };
}
