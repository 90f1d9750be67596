import { isDeepStrictEqual } from 'node:util';
import type { ContainerSpec } from '../engine.ts';
import type { ContainerAnswer } from './answers.ts';
import type { ContainerBody } from './body.ts';

/**
 * Compares what the engine says it runs with what was asked; returns the differences, empty when there are none.
 * What was not asked must be absent: a key that we do not know and that is not empty is a difference, because a newer
 * engine's default, or somebody's `docker update`, may widen what a sandbox can do.
 */
export function differences(answer: ContainerAnswer, body: ContainerBody, spec: ContainerSpec): readonly string[] {
  const mounts = spec.volumes.map(({ name, target, kind }) => `${name} at ${target}, ${access(kind !== 'files')}`);
  return [
    ...compared('image', spec.image, answer.Image),
    ...comparedConfig.flatMap((key) => compared(key, body[key], answer.Config[key])),
    ...compared('Env', [...body.Env].sort(), [...answer.Config.Env].sort()),
    ...Object.entries(body.Labels).flatMap(([key, value]) =>
      compared(`label ${key}`, value, answer.Config.Labels[key]),
    ),
    ...hostDifferences(answer, body.HostConfig, engineDefaults),
    ...compared('mounts', mounts.sort(), mountsOf(answer)),
    ...compared('networks', ['none'], Object.keys(answer.NetworkSettings.Networks ?? {})),
  ];
}

/** The same for a container of `setUp`, which leaves more to the engine; `networks` is what it is to be on. */
export function setUpDifferences(
  answer: ContainerAnswer | undefined,
  body: { readonly HostConfig: Readonly<Record<string, unknown>> },
  networks: readonly string[],
): readonly string[] {
  if (answer === undefined) return ['it is gone'];
  return [
    ...hostDifferences(answer, body.HostConfig, { ...engineDefaults, ...leftToTheEngine(answer) }),
    ...compared('networks', networks, Object.keys(answer.NetworkSettings.Networks ?? {})),
  ];
}

/** Not asked for of a setup: every value will do. */
function leftToTheEngine({ HostConfig }: ContainerAnswer): Readonly<Record<string, unknown>> {
  const keys = ['ShmSize', 'Runtime', 'MaskedPaths', 'ReadonlyPaths', 'CgroupnsMode', 'MemorySwappiness'];
  return Object.fromEntries(keys.map((key) => [key, HostConfig[key]]));
}

function hostDifferences(
  { HostConfig }: ContainerAnswer,
  asked: Readonly<Record<string, unknown>>,
  defaults: Readonly<Record<string, unknown>>,
): readonly string[] {
  return [
    ...Object.entries(asked).flatMap(([key, wanted]) =>
      key === 'Mounts' ? [] : compared(key, asWritten(key, wanted), asWritten(key, HostConfig[key])),
    ),
    ...Object.entries(HostConfig).flatMap(([key, got]) =>
      Object.hasOwn(asked, key) || isEmpty(got) || isDeepStrictEqual(got, defaults[key])
        ? []
        : [`${key}: not asked, runs ${show(got)}`],
    ),
  ];
}

function compared(what: string, wanted: unknown, got: unknown): readonly string[] {
  return same(wanted, got) ? [] : [`${what}: asked ${show(wanted)}, runs ${show(got)}`];
}

const comparedConfig = [
  'User',
  'WorkingDir',
  'Hostname',
  'Entrypoint',
  'Cmd',
  'Tty',
  'OpenStdin',
  'StdinOnce',
  'StopSignal',
  'Healthcheck',
] as const;

/** What engines fill in by themselves, and why it is harmless. */
const engineDefaults: Readonly<Record<string, unknown>> = {
  ConsoleSize: [0, 0], // of a terminal, which there is none
  Isolation: 'default', // Windows only
  CgroupManager: 'systemd', // Podman: who writes the limits that are compared above
};

function mountsOf(answer: ContainerAnswer): readonly string[] {
  return answer.Mounts.map(
    (mount) =>
      `${mount.Type === 'volume' ? mount.Name : `${mount.Type} ${mount.Source}`} at ${mount.Destination}, ${access(mount.RW)}`,
  ).sort();
}

function access(writable: boolean): string {
  return writable ? 'WRITABLE' : 'read-only';
}

/** Lists of names have no order, and Podman writes capabilities with their prefix. */
function asWritten(key: string, value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  if (key !== 'CapAdd' && key !== 'CapDrop' && key !== 'MaskedPaths' && key !== 'ReadonlyPaths') return value;
  return value.map((item) => String(item).replace(/^CAP_/, '')).sort();
}

function same(wanted: unknown, got: unknown): boolean {
  return (isEmpty(wanted) && isEmpty(got)) || isDeepStrictEqual(wanted, got);
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === 0 || value === '') return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}
