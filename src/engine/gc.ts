import { Slots } from '../slots.ts';
import type { Engine, FoundContainer } from './engine.ts';
import { labelKeys } from './labels.ts';

/**
 * Removes what dead runner processes of one data directory have left at the engine. Promises:
 *  - the engine's labels are the only evidence; nothing without our label and this owner is looked at, far less touched;
 *  - what belongs to a living instance stays;
 *  - doing it twice changes nothing.
 */
export async function collect(engine: Engine, options: CollectOptions): Promise<readonly Collected[]> {
  const removed: Collected[] = [];
  const owned = { [labelKeys.owner]: options.owner };
  const nowMs = Date.now() + ((await engine.describe()).clockSkewMs ?? 0);
  const abandoned: FoundContainer[] = [];
  for (const container of await engine.list(owned)) {
    const instance = container.labels[labelKeys.instance];
    const goes =
      instance === undefined
        ? Math.abs(nowMs - container.createdMs) > fillerMaxMs
        : !(await options.isAlive(instance, container.labels[labelKeys.sandbox]));
    if (goes) abandoned.push(container);
  }
  if (options.dryRun !== true) await destroyAll(engine, abandoned);
  for (const { id, name, labels } of abandoned)
    removed.push({
      kind: 'container',
      id,
      name,
      sandbox: labels[labelKeys.sandbox],
      instance: labels[labelKeys.instance],
    });
  for (const key of [labelKeys.workspace, labelKeys.inputs]) {
    for (const volume of await engine.findVolumes({ ...owned, [key]: '' })) {
      const { [labelKeys.instance]: instance, [key]: sandbox = '' } = volume.labels;
      if (instance !== undefined && (await options.isAlive(instance, sandbox))) continue;
      // The first of a sandbox's inputs takes the others along.
      if (options.dryRun !== true && (await engine.removeVolumes({ ...owned, [key]: sandbox }, [])).length === 0)
        continue;
      removed.push({ kind: 'volume', name: volume.name });
    }
  }
  // After the containers, which may be on them.
  for (const { id, name, labels } of await engine.findNetworks(owned)) {
    const instance = labels[labelKeys.instance];
    if (instance !== undefined && (await options.isAlive(instance, undefined))) continue;
    if (options.dryRun !== true && !(await engine.removeNetwork(id))) continue;
    removed.push({ kind: 'network', name });
  }
  const filled = { ...owned, [labelKeys.files]: '' };
  const keep = options.keepVolumes ?? [];
  const volumes =
    options.dryRun === true
      ? (await engine.listVolumes(filled)).filter((name) => !keep.includes(name))
      : await engine.removeVolumes(filled, keep);
  return [...removed, ...volumes.map((name): Collected => ({ kind: 'volume', name }))];
}

/** Side by side: an engine takes a second or more for one, and a service that starts answers nobody meanwhile. */
async function destroyAll(engine: Engine, containers: readonly FoundContainer[]): Promise<void> {
  const slots = new Slots(atOnce);
  const done = await Promise.allSettled(containers.map(({ id }) => slots.run(() => engine.destroy(id))));
  for (const each of done) if (each.status === 'rejected') throw each.reason;
}

const atOnce = 4;

export interface CollectOptions {
  /** Id of the data directory. */
  readonly owner: string;
  /** Whether the runner process with this id lives, or another one that has taken the sandbox over. In doubt: true. */
  readonly isAlive: (instance: string, sandbox: string | undefined) => boolean | Promise<boolean>;
  /** Volumes that are current (the supervisor of this version). */
  readonly keepVolumes?: readonly string[];
  /** Says what would go, and removes nothing. A volume or network in use is listed too. */
  readonly dryRun?: boolean;
}

export type Collected =
  | {
      readonly kind: 'container';
      readonly id: string;
      readonly name: string;
      readonly sandbox: string | undefined;
      readonly instance: string | undefined;
    }
  | { readonly kind: 'volume' | 'network'; readonly name: string };

/** The container that fills a volume belongs to no instance; it lives for less than a second. One of tomorrow is of before a clock was set. */
const fillerMaxMs = 60_000;
