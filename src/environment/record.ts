import { mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { buildRecord, listBuildRecords } from '../data-dir/build-records.ts';
import { canonicalJson, digestOf } from '../digest.ts';
import type { EngineFacts } from '../engine/engine.ts';
import { WriterLock } from '../journal/lock.ts';
import type { Draft, EntryData } from '../journal/entry.ts';
import { Journal } from '../journal/writer.ts';
import type { Policy } from '../policy/policy.ts';
import type { SandboxSpec } from '../sandbox/container-body.ts';
import type { Wanted } from './environment.ts';
import { isBuilt } from './lock.ts';

/** Of one environment, and of environments that were never whole. */
const keptOfOne = 5;
const keptOfUnbuilt = 50;

interface Begun {
  readonly wanted: Wanted;
  readonly policy: Policy;
  readonly facts: EngineFacts;
  readonly spec: SandboxSpec;
}

/** A journal like a run's, of what setup asks of the network; older ones make room. What cannot be kept is not built. */
export async function openRecord(dataDir: string, begun: Begun): Promise<Journal> {
  const { path } = buildRecord(dataDir, begun.wanted.name, begun.spec.id);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await dropOld(dataDir);
  const journal = await Journal.create(path, begun.spec.id);
  try {
    await journal.append(openedEntry(begun));
    return journal;
  } catch (error) {
    await journal.close();
    throw error;
  }
}

/** Path of the newest record of an environment, whether or not it was built in the end. */
export async function findRecord(dataDir: string, name: string): Promise<string | undefined> {
  return (await listBuildRecords(dataDir)).find((record) => record.name === name)?.path;
}

export async function removeRecords(dataDir: string, name: string): Promise<void> {
  for (const record of await listBuildRecords(dataDir)) if (record.name === name) await remove(record.path);
}

async function dropOld(dataDir: string): Promise<void> {
  const seen = new Map<string, number>();
  let unbuilt = 0;
  for (const { name, path } of await listBuildRecords(dataDir)) {
    const count = (seen.get(name) ?? 0) + 1;
    seen.set(name, count);
    if (!(await isBuilt(dataDir, name))) unbuilt += 1;
    if (count >= keptOfOne || unbuilt >= keptOfUnbuilt) await remove(path);
  }
}

/** Not while somebody writes it. */
async function remove(path: string): Promise<void> {
  if (await WriterLock.isHeld(path)) return;
  await WriterLock.sweepDead(path);
  await rm(path, { force: true });
}

function openedEntry({ wanted, policy, facts, spec }: Begun): Draft {
  const effective = JSON.parse(canonicalJson(policy)) as EntryData<'run.opened'>['policy']['effective'];
  return {
    type: 'run.opened',
    data: {
      intent: `set up the environment ${wanted.name}`,
      policy: { name: policy.name, digest: digestOf(canonicalJson(policy)), effective },
      image: { ...wanted.base },
      engine: {
        kind: facts.kind,
        version: facts.version,
        runtime: spec.runtime,
        factsDigest: digestOf(canonicalJson({ ...facts, clockSkewMs: undefined })),
      },
      limits: { ...spec.limits },
      versions: { node: process.version, kernel: facts.kernel },
    },
  };
}
