import { createReadStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalJson, digestOf, type Digest } from '../digest.ts';
import type { Engine } from '../engine/engine.ts';
import { RunnerError } from '../errors.ts';
import { acceptImage, forgetImage } from '../images/accepted.ts';
import { describeImage, writeImageArchive } from '../images/archive.ts';
import { repack } from '../images/repack.ts';
import { readRootfs, type RootfsFacts } from '../images/rootfs.ts';
import type { Wanted } from './environment.ts';
import { findEnvironmentLock, removeEnvironmentLock, writeEnvironmentLock, type EnvironmentLock } from './lock.ts';
import { removeRecords } from './record.ts';
import { keepResults, removeResults } from './results.ts';
import { exported, failed, runSetup, type SetupOptions } from './run-setup.ts';

export interface BuildEnvironmentOptions extends SetupOptions {
  readonly rebuild?: boolean;
}

/** Cheap when it is built already. A setup that fails is `engine_failed` with the last lines it said; nothing is kept. */
export async function buildEnvironment(
  wanted: Wanted,
  options: BuildEnvironmentOptions,
): Promise<{ readonly lock: EnvironmentLock; readonly upToDate: boolean }> {
  const { engine, dataDir, onProgress } = options;
  refuseBoth(options);
  const known = options.rebuild === true ? undefined : await findEnvironmentLock(dataDir, wanted.name);
  if (known?.key === wanted.key && (await engine.findImage(known.id)) !== undefined)
    return { lock: known, upToDate: true };
  const dir = await mkdtemp(join(dataDir, '.partial-')); // `glovebox gc` takes it away if we cannot
  try {
    const rootfs = join(dir, 'rootfs.tar');
    const egress = await runSetup(wanted, options, dir);
    options.signal?.throwIfAborted();
    onProgress('packing the image');
    const base = await engine.findImage(wanted.base.id);
    const epoch = Math.floor((base?.createdMs ?? 0) / 1000);
    await repack([join(dir, exported)], rootfs, epoch);
    const facts = await readRootfs(createReadStream(rootfs));
    if (facts.faults.length > 0)
      throw failed(wanted, `left what must not be in a sandbox: ${facts.faults.slice(0, 20).join('; ')}`);
    const description = describeImage({ image: wanted.name, digest: wanted.key, sourceDateEpoch: epoch }, facts);
    await engine.loadImage(writeImageArchive(description, rootfs, facts.bytes));
    const loaded = await engine.findImage(description.tags[0] ?? description.id);
    if (loaded === undefined) throw failed(wanted, 'was loaded, but the engine does not have it');
    onProgress('keeping what setup left in its workspace');
    await keepResults(dataDir, loaded.id as Digest, rootfs);
    const lock = lockOf(wanted, facts, loaded.id as Digest, {
      ...options,
      ...(egress === undefined ? {} : { egress }),
    });
    await writeEnvironmentLock(dataDir, lock);
    const { id, content, key, builtAt: acceptedAt } = lock;
    const entry = {
      id,
      content,
      recipe: key,
      lock: digestOf(canonicalJson(lock)),
      state: 'locked',
      acceptedAt,
    } as const;
    await acceptImage(dataDir, wanted.name, entry);
    return { lock, upToDate: false };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** The image, its place on the list of accepted ones, and its lock. Absent is fine. */
export async function removeEnvironment(engine: Engine, dataDir: string, lock: EnvironmentLock): Promise<void> {
  await forgetImage(dataDir, lock.name);
  const image = await engine.findImage(lock.id);
  // An image with tags goes with the last of them.
  const references = image === undefined ? [] : image.tags.length === 0 ? [lock.id] : image.tags;
  for (const reference of references) await engine.removeImage(reference);
  await removeResults(dataDir, lock.id);
  await removeRecords(dataDir, lock.name);
  await removeEnvironmentLock(dataDir, lock.name);
}

/** An operator's switch would be a way past the policy, and certificates in place of the fence's would shut it. */
function refuseBoth({ policy, network, access }: BuildEnvironmentOptions): void {
  const { egress } = policy.environment ?? {};
  if (egress === undefined) return;
  const says = `policy ${policy.name} says what setup may reach (environment.egress: ${egress.profiles.join(', ')})`;
  if (network === true)
    throw new RunnerError(
      'invalid_request',
      `${says}; --setup-network would lead past it: leave it out, or take egress out of the policy's environment`,
    );
  if (access?.ca !== undefined)
    throw new RunnerError(
      'invalid_request',
      `${says}, and the runner carries it; it trusts egress.ca of its configuration, so leave --setup-ca out`,
    );
}

function lockOf(
  wanted: Wanted,
  facts: RootfsFacts,
  id: Digest,
  {
    network = false,
    access,
    egress,
  }: Pick<BuildEnvironmentOptions, 'network' | 'access'> & Pick<EnvironmentLock, 'egress'>,
): EnvironmentLock {
  return {
    version: 1,
    name: wanted.name,
    key: wanted.key,
    base: wanted.base,
    setup: wanted.spec.setup.map((argv) => [...argv]),
    files: [...wanted.files],
    network,
    ...(egress === undefined ? {} : { egress }),
    ...(access === undefined
      ? {}
      : {
          access: {
            variables: Object.keys(access.env).sort(),
            ...(access.ca === undefined ? {} : { ca: digestOf(access.ca) }),
          },
        }),
    id,
    content: facts.content,
    bytes: facts.bytes,
    packages: {
      debian: facts.packages.map(({ name, version }) => `${name}=${version}`),
      npm: facts.npm.map(({ name, version }) => `${name}@${version}`),
      python: [...facts.python],
    },
    builtAt: new Date().toISOString(),
  };
}
