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
  const found: string[] = [];
  const check = (what: string, wanted: unknown, got: unknown): void => {
    if (!same(wanted, got)) found.push(`${what}: asked ${show(wanted)}, runs ${show(got)}`);
  };
  check('image', spec.image, answer.Image);
  for (const key of comparedConfig) check(key, body[key], answer.Config[key]);
  check('Env', [...body.Env].sort(), [...answer.Config.Env].sort());
  for (const [key, value] of Object.entries(body.Labels)) check(`label ${key}`, value, answer.Config.Labels[key]);
  for (const [key, wanted] of Object.entries(body.HostConfig)) {
    if (key !== 'Mounts') check(key, asWritten(key, wanted), asWritten(key, answer.HostConfig[key]));
  }
  for (const [key, got] of Object.entries(answer.HostConfig)) {
    if (Object.hasOwn(body.HostConfig, key) || isEmpty(got) || isDeepStrictEqual(got, engineDefaults[key])) continue;
    found.push(`${key}: not asked, runs ${show(got)}`);
  }
  const mounts = spec.volumes.map(({ name, target, kind }) => `${name} at ${target}, ${access(kind !== 'files')}`);
  check('mounts', mounts.sort(), mountsOf(answer));
  check('networks', ['none'], Object.keys(answer.NetworkSettings.Networks ?? {}));
  return found;
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
