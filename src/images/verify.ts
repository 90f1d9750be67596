import type { Engine, ImageFacts } from '../engine/engine.ts';
import { isRunnerError, RunnerError } from '../errors.ts';
import { readAccepted, type AcceptedImage } from './accepted.ts';
import { imageLabels, readImageArchive, type ReadImage } from './archive.ts';
import type { Progress } from './bootstrap.ts';
import { findLock, lockDifferences, type ImageLock } from './lock.ts';
import { loadRecipe, shippedImagesDir, type Recipe } from './recipe.ts';
import type { RootfsFacts } from './rootfs.ts';

export interface VerifyOptions {
  readonly engine: Engine;
  readonly dataDir: string;
  readonly imagesDir?: string;
  readonly onProgress?: Progress;
}

export interface Verification {
  readonly name: string;
  readonly id: string | undefined;
  /**
   * verified   its bytes are what the lock says
   * moved      its bytes are what was accepted here, but not what the lock says
   * mismatch   neither: do not use it
   * absent     not accepted, or not in the engine
   */
  readonly verdict: 'verified' | 'moved' | 'mismatch' | 'absent';
  readonly differences: readonly string[];
}

/**
 * Reads the accepted image out of the engine, every byte of it, and compares what it is with the list of accepted images and
 * with the lock. Labels and tags are claims: they are compared with the bytes, and prove nothing.
 */
export async function verifyImage(name: string, options: VerifyOptions): Promise<Verification> {
  const imagesDir = options.imagesDir ?? shippedImagesDir;
  const recipe = await loadRecipe(name, imagesDir);
  const { images } = await readAccepted(options.dataDir);
  const entry = Object.hasOwn(images, name) ? images[name] : undefined;
  const next = `run: glovebox image build ${name}`;
  if (entry === undefined)
    return { name, id: undefined, verdict: 'absent', differences: [`not on the list of accepted images; ${next}`] };
  const image = await options.engine.findImage(entry.id);
  if (image === undefined)
    return { name, id: entry.id, verdict: 'absent', differences: [`not in the engine; ${next}`] };
  options.onProgress?.(`${name}: reading ${Math.round(image.bytes / 1_000_000)} MB from the engine`);
  const lock = await findLock(name, imagesDir);
  return { name, id: entry.id, ...(await judge(image, entry, lock, recipe, options.engine)) };
}

async function judge(
  image: ImageFacts,
  entry: AcceptedImage,
  lock: ImageLock | undefined,
  recipe: Recipe,
  engine: Engine,
): Promise<Pick<Verification, 'verdict' | 'differences'>> {
  const inspected = await inspectImage(engine, image, recipe).catch((error: unknown) => {
    if (isRunnerError(error, 'image_not_allowed')) return error;
    throw error;
  });
  if (inspected instanceof RunnerError) return { verdict: 'mismatch', differences: [inspected.message] };
  const wrong = [...inspected.faults];
  const tag = `glovebox/${recipe.image}:latest`;
  const tagged = await engine.findImage(tag);
  if (tagged !== undefined && tagged.id !== image.id)
    wrong.push(`tag ${tag} points at ${tagged.id}, accepted is ${image.id}`);
  if (inspected.rootfs.content !== entry.content)
    wrong.push(`content: accepted ${entry.content}, found ${inspected.rootfs.content}`);
  if (wrong.length > 0) return { verdict: 'mismatch', differences: wrong };
  if (lock === undefined) return { verdict: 'moved', differences: ['there is no lock to compare with'] };
  const differences = lockDifferences(lock, foundLock(lock, inspected));
  return { verdict: differences.length === 0 ? 'verified' : 'moved', differences };
}

/** What the lock would say of this image. How it was made and what npm gave cannot be read from it: `content` covers that. */
function foundLock(lock: ImageLock, { rootfs, read }: InspectedImage): ImageLock {
  const packages = rootfs.packages.map((found) => `${found.name}=${found.version}`);
  const recipe = read.config.config.Labels?.['glovebox.image.recipe'] as ImageLock['recipe'] | undefined;
  const { content, architecture } = rootfs;
  return { ...lock, packages, content, architecture, id: read.id, recipe: recipe ?? lock.recipe };
}

export interface InspectedImage {
  readonly read: ReadImage;
  readonly rootfs: RootfsFacts;
  /** Where the image contradicts itself or must not run, in lines. */
  readonly faults: readonly string[];
}

/** An image of the engine, read whole; `image_not_allowed` if it has not the form of ours. */
export async function inspectImage(engine: Engine, image: ImageFacts, recipe: Recipe): Promise<InspectedImage> {
  const read = await readImageArchive(await engine.saveImage(image.id), `image ${image.id}`);
  const { rootfs, config } = read;
  const faults = [...rootfs.faults];
  const [layer] = config.rootfs.diff_ids;
  if (layer !== rootfs.content)
    faults.push(`content: the configuration names ${layer ?? 'nothing'}, the bytes are ${rootfs.content}`);
  const expected = imageLabels(recipe.image, recipe.digest, rootfs.content);
  for (const [key, value] of Object.entries(expected)) {
    const label = config.config.Labels?.[key];
    if (key !== 'glovebox.image.recipe' && label !== value)
      faults.push(`label ${key}: expected ${value}, found ${label ?? 'none'}`);
  }
  return { read, rootfs, faults };
}
