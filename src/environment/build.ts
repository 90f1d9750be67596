import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rm, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { canonicalJson, digestOf, type Digest } from '../digest.ts';
import type { Engine, Labels, SetUpSpec } from '../engine/engine.ts';
import { RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import { acceptImage, forgetImage } from '../images/accepted.ts';
import { describeImage, writeImageArchive } from '../images/archive.ts';
import { repack } from '../images/repack.ts';
import { readRootfs, type RootfsFacts } from '../images/rootfs.ts';
import type { BlobStore } from '../workspace/blobs.ts';
import type { Wanted } from './environment.ts';
import { findEnvironmentLock, removeEnvironmentLock, writeEnvironmentLock, type EnvironmentLock } from './lock.ts';
import { keepResults, removeResults } from './results.ts';
import { setupArgv, setupEnvironment, setupFiles, type SetupAccess } from './setup-script.ts';

export interface BuildEnvironmentOptions {
  readonly engine: Engine;
  readonly dataDir: string;
  readonly blobs: BlobStore;
  /** By which `gc` finds the container of a process that died: owner and instance. */
  readonly labels: Labels;
  readonly limits: SetUpSpec['limits'];
  /** A bridge network for setup. An operator's word, never a policy's. */
  readonly network?: boolean;
  /** What setup needs to get at registries from here; an operator's word too. */
  readonly access?: SetupAccess;
  readonly rebuild?: boolean;
  readonly timeoutMs?: number;
  readonly onProgress: (line: string) => void;
}

/** Cheap when it is built already. A setup that fails is `engine_failed` with the last lines it said; nothing is kept. */
export async function buildEnvironment(
  wanted: Wanted,
  options: BuildEnvironmentOptions,
): Promise<{ readonly lock: EnvironmentLock; readonly upToDate: boolean }> {
  const { engine, dataDir, onProgress } = options;
  const known = options.rebuild === true ? undefined : await findEnvironmentLock(dataDir, wanted.name);
  if (known?.key === wanted.key && (await engine.findImage(known.id)) !== undefined)
    return { lock: known, upToDate: true };
  const dir = await mkdtemp(join(dataDir, '.partial-')); // `glovebox gc` takes it away if we cannot
  try {
    const rootfs = join(dir, 'rootfs.tar');
    await setUp(wanted, options, join(dir, 'export.tar'));
    onProgress('packing the image');
    const base = await engine.findImage(wanted.base.id);
    const epoch = Math.floor((base?.createdMs ?? 0) / 1000);
    await repack([join(dir, 'export.tar')], rootfs, epoch);
    const facts = await readRootfs(createReadStream(rootfs));
    if (facts.faults.length > 0)
      throw failed(wanted, `left what must not be in a sandbox: ${facts.faults.slice(0, 20).join('; ')}`);
    const description = describeImage({ image: wanted.name, digest: wanted.key, sourceDateEpoch: epoch }, facts);
    await engine.loadImage(writeImageArchive(description, rootfs, facts.bytes));
    const loaded = await engine.findImage(description.tags[0] ?? description.id);
    if (loaded === undefined) throw failed(wanted, 'was loaded, but the engine does not have it');
    onProgress('keeping what setup left in its workspace');
    await keepResults(dataDir, loaded.id as Digest, rootfs);
    const lock = lockOf(wanted, facts, loaded.id as Digest, options);
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
  await removeEnvironmentLock(dataDir, lock.name);
}

async function setUp(wanted: Wanted, options: BuildEnvironmentOptions, to: string): Promise<void> {
  const { engine, onProgress, labels, limits } = options;
  const output = new OutputTail(onProgress);
  onProgress(
    `setting up ${wanted.name} on ${wanted.base.reference}${options.network === true ? ', with a network' : ''}`,
  );
  const end = await engine.setUp(
    {
      name: `glovebox-setup-${newId()}`,
      image: wanted.base.id,
      labels,
      argv: setupArgv,
      env: setupEnvironment(options.access),
      files: setupFiles(wanted, options.blobs, options.access),
      network: { kind: options.network === true ? 'bridge' : 'none' },
      limits,
      timeoutMs: options.timeoutMs ?? setupTimeoutMs,
      onOutput: (bytes) => output.push(bytes),
    },
    (rootfs) => keepExport(rootfs, to, wanted),
  );
  if (end.kind === 'done') return;
  const hint = options.network === true ? '' : '; it has no network: --setup-network gives it one';
  throw failed(wanted, `ended with exit code ${end.exitCode}${hint}; its last lines:\n${output.tail()}`);
}

const setupTimeoutMs = 1_800_000;
const rootfsBytesMax = 16 * 1024 ** 3;
/** The archive as it comes, as it is packed, and what of it is kept: the disk has room for each, and for others. */
const copies = 4;

/** A sparse file of terabytes costs setup nothing, and would fill the disk on which journals are written. */
async function keepExport(rootfs: Readable, to: string, wanted: Wanted): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(to));
  const bytesMax = Math.min(rootfsBytesMax, Math.floor((bavail * bsize) / copies));
  let bytes = 0;
  const bounded = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes <= bytesMax) done(undefined, chunk);
      else done(failed(wanted, `left more than ${bytesMax} bytes, which is all there is room for in ${dirname(to)}`));
    },
  });
  await pipeline(rootfs, bounded, createWriteStream(to));
}

/** Each line is told once; the last ones are kept, bounded. */
class OutputTail {
  readonly #onLine: (line: string) => void;
  readonly #lines: string[] = [];
  #rest = '';

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(bytes: Buffer): void {
    const lines = (this.#rest + bytes.toString('utf8')).split('\n');
    this.#rest = (lines.pop() ?? '').slice(-lineCharsMax);
    for (const line of lines) this.#keep(line.slice(0, lineCharsMax));
  }

  tail(): string {
    if (this.#rest !== '') this.#keep(this.#rest);
    this.#rest = '';
    return this.#lines.join('\n');
  }

  #keep(line: string): void {
    this.#onLine(line);
    this.#lines.push(line);
    if (this.#lines.length > linesKept) this.#lines.shift();
  }
}

const lineCharsMax = 1000;
const linesKept = 20;

function failed({ name, base }: Wanted, why: string): RunnerError {
  return new RunnerError('engine_failed', `environment ${name} on ${base.reference}: setup ${why}`);
}

function lockOf(
  wanted: Wanted,
  facts: RootfsFacts,
  id: Digest,
  { network = false, access }: BuildEnvironmentOptions,
): EnvironmentLock {
  return {
    version: 1,
    name: wanted.name,
    key: wanted.key,
    base: wanted.base,
    setup: wanted.spec.setup.map((argv) => [...argv]),
    files: [...wanted.files],
    network,
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
