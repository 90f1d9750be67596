import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import type { Engine } from '../engine/engine.ts';
import { RunnerError } from '../errors.ts';
import { acceptImage, readAccepted, type AcceptedImage } from './accepted.ts';
import { describeImage, extractLayer, writeImageArchive } from './archive.ts';
import { bootstrapRootfs, canBootstrap, run, type Progress, type Workshop } from './bootstrap.ts';
import { findLock, lockDifferences, lockDigest, writeLock, writeWhole, type ImageLock } from './lock.ts';
import { packNpmFiles } from './npm-files.ts';
import { loadRecipe, shippedImagesDir, type Recipe } from './recipe.ts';
import { buildOnBase, resolveBase, type DockerCli } from './registry.ts';
import { repack } from './repack.ts';
import { readRootfs, type RootfsFacts } from './rootfs.ts';
import { bomOf } from './sbom.ts';
import { inspectImage } from './verify.ts';

/** `auto`: from Debian packages where this machine can, otherwise on the official base of a registry. */
type ImageSource = 'auto' | 'debian' | 'registry';

export interface BuildOptions {
  readonly engine: Engine;
  readonly dataDir: string;
  /** A line of progress, or a warning. */
  readonly onProgress: Progress;
  /** Take the newest packages and rewrite the lock and the package list. */
  readonly update?: boolean;
  /** Build even if the engine has the accepted image already. */
  readonly rebuild?: boolean;
  readonly from?: ImageSource;
  readonly imagesDir?: string;
}

export interface BuiltImage {
  readonly name: string;
  readonly id: string;
  readonly tags: readonly string[];
  /** `moved`: other package versions than the lock's, as `differences` lists; accepted all the same. */
  readonly state: 'locked' | 'moved';
  readonly differences: readonly string[];
  /** Nothing had to be built. */
  readonly upToDate: boolean;
  readonly elapsedMs: number;
}

/**
 * Sees to it that the engine has the image and that the list accepts it. Cheap when that is so already.
 *
 * 1. An accepted image of this recipe and lock that the engine still has: done.
 * 2. An image in the engine with the locked id whose bytes prove to be the locked ones: accepted.
 * 3. Otherwise it is made, read back from its tar, compared with the lock, loaded, and accepted by its id.
 */
export async function buildImage(name: string, options: BuildOptions): Promise<BuiltImage> {
  const startMs = performance.now();
  const imagesDir = options.imagesDir ?? shippedImagesDir;
  const recipe = await loadRecipe(name, imagesDir);
  const lock = await findLock(name, imagesDir);
  const update = options.update === true;
  if (lock !== undefined && lock.recipe !== recipe.digest && !update) {
    const next = `review the change, then run: glovebox image build ${name} --update`;
    throw new RunnerError(
      'invalid_request',
      `images/${name}: the recipe is not the one its lock was made from; ${next}`,
    );
  }
  const anew = update || options.rebuild === true;
  const ready = anew || lock === undefined ? undefined : await findReady(recipe, lock, options);
  const built = ready ?? (await make(recipe, lock, imagesDir, options));
  return { ...built, elapsedMs: Math.round(performance.now() - startMs) };
}

type Ready = Omit<BuiltImage, 'elapsedMs'>;

async function findReady(recipe: Recipe, lock: ImageLock, options: BuildOptions): Promise<Ready | undefined> {
  const { images } = await readAccepted(options.dataDir);
  const entry = Object.hasOwn(images, recipe.image) ? images[recipe.image] : undefined;
  const common = { name: recipe.image, differences: [], upToDate: true };
  if (entry !== undefined && entry.recipe === recipe.digest && entry.lock === lockDigest(lock)) {
    const found = await options.engine.findImage(entry.id);
    if (found !== undefined) return { ...common, id: found.id, tags: found.tags, state: entry.state };
  }
  const present = await options.engine.findImage(lock.id);
  if (present === undefined) return undefined;
  options.onProgress(`${recipe.image}: reading the image that the engine has`);
  const { rootfs, faults } = await inspectImage(options.engine, present, recipe);
  if (faults.length > 0 || rootfs.content !== lock.content) return undefined;
  await accept(options, lock, lock, present.id, 'locked');
  return { ...common, id: present.id, tags: present.tags, state: 'locked' };
}

async function make(
  recipe: Recipe,
  lock: ImageLock | undefined,
  imagesDir: string,
  options: BuildOptions,
): Promise<Ready> {
  const dir = await mkdtemp(join(options.dataDir, '.partial-')); // `glovebox gc` takes it away if we cannot
  const onProgress: Progress = (line) => options.onProgress(`${recipe.image}: ${line}`);
  try {
    const made = await makeRootfs(recipe, lock, imagesDir, { ...options, onProgress }, dir);
    const { facts, found } = made;
    if (facts.faults.length > 0) {
      throw new RunnerError(
        'engine_failed',
        `image ${recipe.image} was built but must not run:\n${facts.faults.join('\n')}`,
      );
    }
    const description = describeImage(recipe, facts);
    onProgress('loading into the engine');
    await options.engine.loadImage(writeImageArchive(description, made.path, facts.bytes));
    const loaded = await options.engine.findImage(description.tags[0] ?? description.id);
    if (loaded === undefined)
      throw new RunnerError('engine_failed', `image ${recipe.image} was loaded, but the engine does not have it`);
    const differences = lock === undefined || options.update === true ? [] : lockDifferences(lock, found);
    const state = differences.length === 0 ? 'locked' : 'moved';
    const current = await keepLock(found, lock, facts, recipe, imagesDir, options, onProgress);
    await accept(options, current, found, loaded.id, state);
    for (const line of differences.slice(0, 20)) onProgress(`moved: ${line}`);
    if (state === 'moved')
      onProgress(
        `differs from its lock and is accepted as moved; to lock it: glovebox image build ${recipe.image} --update`,
      );
    return { name: recipe.image, id: loaded.id, tags: loaded.tags, state, differences, upToDate: false };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

interface MadeRootfs {
  readonly path: string;
  readonly facts: RootfsFacts;
  /** What the lock would say of it. */
  readonly found: ImageLock;
}

async function makeRootfs(
  recipe: Recipe,
  lock: ImageLock | undefined,
  imagesDir: string,
  options: BuildOptions,
  dir: string,
): Promise<MadeRootfs> {
  const { engine, onProgress } = options;
  const update = options.update === true;
  const { architecture, endpoint } = await engine.describe();
  const finishScript = join(dir, 'finish.sh');
  await writeFile(finishScript, recipe.finishScript);
  const pins = update ? [] : (lock?.npm ?? []);
  const wanted = { recipe, architecture: debianName(architecture), pins, dir, onProgress };
  const npm = recipe.npm.length === 0 ? undefined : await packNpmFiles(wanted);
  const workshop: Workshop = { dir, finishScript, filesTar: npm?.tar, onProgress };
  const source = await chooseSource(options.from ?? 'auto');
  const docker: DockerCli = (args, timeoutMs) => run('docker', args, { timeoutMs }, { DOCKER_HOST: endpoint });
  const base = source === 'registry' ? await resolveBase(recipe, lock?.base, docker, update) : lock?.base;
  let path: string;
  if (source === 'registry' && base !== undefined) {
    path = await buildOnBase(recipe, base, join(imagesDir, recipe.image, 'Dockerfile'), workshop, docker);
  } else {
    path = await (recipe.addsTo === undefined
      ? bootstrapRootfs(recipe, workshop)
      : addToParent(recipe.addsTo, recipe, workshop, options));
  }
  onProgress('reading what was built');
  const facts = await readRootfs(createReadStream(path));
  const found: ImageLock = {
    version: 1,
    image: recipe.image,
    recipe: recipe.digest,
    architecture: facts.architecture,
    source,
    ...(base === undefined ? {} : { base }),
    npm: [...(npm?.pins ?? [])],
    content: facts.content,
    id: describeImage(recipe, facts).id,
    packages: facts.packages.map(({ name, version }) => `${name}=${version}`),
  };
  return { path, facts, found };
}

/** The parent's root file system, read back from the engine, with the files of this recipe: seconds instead of a bootstrap. */
async function addToParent(parent: string, recipe: Recipe, workshop: Workshop, options: BuildOptions): Promise<string> {
  const { engine, dataDir, onProgress } = options;
  const { id } = await buildImage(parent, { ...options, update: false, rebuild: false, from: 'debian' });
  const parentTar = join(workshop.dir, 'parent.tar');
  onProgress(`adding to ${parent}`);
  await extractLayer(await engine.saveImage(id), parentTar, `image ${parent}`);
  const { content } = await readRootfs(createReadStream(parentTar));
  const expected = (await readAccepted(dataDir)).images[parent]?.content;
  if (content !== expected) {
    const message = `image ${parent} in the engine is ${content}, accepted was ${expected ?? 'nothing'}; run: glovebox image build ${parent} --rebuild`;
    throw new RunnerError('image_not_allowed', message);
  }
  const rootfs = join(workshop.dir, 'rootfs.tar');
  const files = workshop.filesTar === undefined ? [] : [workshop.filesTar];
  await repack([parentTar, ...files], rootfs, recipe.sourceDateEpoch);
  return rootfs;
}

async function chooseSource(wanted: ImageSource): Promise<'debian' | 'registry'> {
  if (wanted !== 'auto') return wanted;
  return (await canBootstrap()) ? 'debian' : 'registry';
}

/** The lock that holds from now on: the new one with `update` or where there was none; the old one otherwise. */
async function keepLock(
  found: ImageLock,
  lock: ImageLock | undefined,
  facts: RootfsFacts,
  recipe: Recipe,
  imagesDir: string,
  options: BuildOptions,
  onProgress: Progress,
): Promise<ImageLock> {
  if (lock === undefined || options.update === true) {
    for (const line of lock === undefined ? [] : lockDifferences(lock, found)) onProgress(`updated: ${line}`);
    await writeLock(found, imagesDir);
    await writeWhole(join(imagesDir, recipe.image, 'sbom.cdx.json'), bomOf(found, facts, recipe.suite));
    return found;
  }
  if (lock.base !== undefined || found.base === undefined) return lock;
  // The first time on a registry's base: its digest is remembered, nothing else of the lock changes.
  const remembered = { ...lock, base: found.base };
  await writeLock(remembered, imagesDir);
  onProgress(
    `pinned ${found.base.reference} at ${found.base.digest} (taken on trust this once; review images/${recipe.image}/lock.json)`,
  );
  return remembered;
}

async function accept(
  { dataDir }: BuildOptions,
  lock: ImageLock,
  found: ImageLock,
  id: string,
  state: AcceptedImage['state'],
): Promise<void> {
  const { content, recipe, image } = found;
  const entry = { content, recipe, state, lock: lockDigest(lock), acceptedAt: new Date().toISOString() };
  await acceptImage(dataDir, image, { ...entry, id: id as AcceptedImage['id'] });
}

/** Engines say `x86_64` and `aarch64` where Debian says `amd64` and `arm64`. */
function debianName(architecture: string): string {
  return { x86_64: 'amd64', aarch64: 'arm64' }[architecture] ?? architecture;
}
