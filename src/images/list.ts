import type { Engine } from '../engine/engine.ts';
import { readAccepted } from './accepted.ts';
import { findLock, lockDigest } from './lock.ts';
import { imageNames, loadRecipe, shippedImagesDir } from './recipe.ts';

export interface ListedImage {
  readonly name: string;
  readonly id: string | undefined;
  /**
   * absent   not accepted here, or not in the engine
   * locked   accepted, and built as the lock says
   * moved    accepted with other package versions than the lock's
   * stale    accepted under a lock or a recipe that has changed since
   */
  readonly state: 'absent' | 'locked' | 'moved' | 'stale';
  readonly tags: readonly string[];
  readonly bytes: number | undefined;
  /** How many Debian packages the lock lists. */
  readonly packages: number | undefined;
  readonly lockedId: string | undefined;
  readonly acceptedAt: string | undefined;
}

/** Every image there is a recipe for, and what the engine has of it. Reads no content: that is `verifyImage`. */
export async function listImages(options: {
  readonly engine: Pick<Engine, 'findImage'>;
  readonly dataDir: string;
  readonly imagesDir?: string;
}): Promise<readonly ListedImage[]> {
  const imagesDir = options.imagesDir ?? shippedImagesDir;
  const { images } = await readAccepted(options.dataDir);
  const listed: ListedImage[] = [];
  for (const name of await imageNames(imagesDir)) {
    const [recipe, lock] = await Promise.all([loadRecipe(name, imagesDir), findLock(name, imagesDir)]);
    const entry = Object.hasOwn(images, name) ? images[name] : undefined;
    const found = entry === undefined ? undefined : await options.engine.findImage(entry.id);
    const current = entry?.recipe === recipe.digest && lock !== undefined && entry.lock === lockDigest(lock);
    listed.push({
      name,
      id: found?.id,
      state: entry === undefined || found === undefined ? 'absent' : current ? entry.state : 'stale',
      tags: found?.tags ?? [],
      bytes: found?.bytes,
      packages: lock?.packages.length,
      lockedId: lock?.id,
      acceptedAt: entry?.acceptedAt,
    });
  }
  return listed;
}
