import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Engine, ImageFacts } from '../engine/engine.ts';
import { acceptImage, readAccepted } from './accepted.ts';
import { buildImage } from './build.ts';
import { listImages } from './list.ts';
import { findLock, lockDigest } from './lock.ts';
import { shippedImagesDir } from './recipe.ts';

let dir: string;
let imagesDir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'build-'));
  imagesDir = join(dir, 'images');
  for (const name of ['base', 'node'])
    await cp(join(shippedImagesDir, name), join(imagesDir, name), { recursive: true });
});

afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

/** An engine that holds one image and can do nothing but say so. */
function engineHolding(id: string): Engine {
  const facts: ImageFacts = { id, tags: [], labels: {}, bytes: 1, createdMs: 0, architecture: 'amd64' };
  const findImage = (reference: string): Promise<ImageFacts | undefined> =>
    Promise.resolve(reference === id ? facts : undefined);
  return { findImage } as unknown as Engine;
}

async function acceptLocked(): Promise<string> {
  const lock = await findLock('base', imagesDir);
  if (lock === undefined) throw new Error('base has no lock');
  const { id, content, recipe } = lock;
  const acceptedAt = '2026-01-01T00:00:00.000Z';
  await acceptImage(dir, 'base', { id, content, recipe, lock: lockDigest(lock), state: 'locked', acceptedAt });
  return id;
}

test('an accepted image of the present lock is not built again', async () => {
  const id = await acceptLocked();
  const options = { engine: engineHolding(id), dataDir: dir, imagesDir, onProgress: () => undefined };
  expect(await buildImage('base', options)).toMatchObject({ upToDate: true, id, state: 'locked' });
});

test('a recipe that changed without its lock does not build, nor does what extends it', async () => {
  const id = await acceptLocked();
  const path = join(imagesDir, 'base', 'recipe.json');
  await writeFile(path, (await readFile(path, 'utf8')).replace('"git"', '"git", "sudo"'));
  const options = { engine: engineHolding(id), dataDir: dir, imagesDir, onProgress: () => undefined };
  for (const name of ['base', 'node']) {
    await expect(buildImage(name, options)).rejects.toMatchObject({ code: 'invalid_request', message: /--update/ });
  }
  expect((await listImages({ engine: options.engine, dataDir: dir, imagesDir }))[0]).toMatchObject({
    name: 'base',
    state: 'stale',
  });
});

test('an unknown key in a recipe does not load', async () => {
  await writeFile(
    join(imagesDir, 'node', 'recipe.json'),
    '{"version":1,"image":"node","extends":"base","package":["sudo"],"packages":[]}',
  );
  const options = { engine: engineHolding(''), dataDir: dir, imagesDir, onProgress: () => undefined };
  await expect(buildImage('node', options)).rejects.toMatchObject({
    code: 'invalid_request',
    message: /Unrecognized key/,
  });
  expect((await readAccepted(dir)).images).toEqual({});
});
