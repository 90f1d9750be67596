import { readFile, writeFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { canonicalJson, digestOf, digestPattern, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';

const digest = z.custom<Digest>((value) => typeof value === 'string' && digestPattern.test(value), 'expected sha256:…');

const NpmPin = z.strictObject({
  name: z.string(),
  version: z.string(),
  /** `sha512-…` of the package's tarball. */
  integrity: z.string().regex(/^sha512-[A-Za-z0-9+/]{86}==$/),
});
export type NpmPin = z.infer<typeof NpmPin>;

/**
 * What an image was when somebody last said `--update`: reviewed like code, compared with every build and every image in
 * the engine. Two builds with the same packages have the same `content`, and so the same `id`.
 */
export const ImageLock = z.strictObject({
  version: z.literal(1),
  image: z.string(),
  recipe: digest,
  architecture: z.string(),
  source: z.enum(['debian', 'registry']),
  /** The official image of the registry way: taken on trust the first time, by digest ever after. */
  base: z.strictObject({ reference: z.string(), digest }).optional(),
  npm: z.array(NpmPin),
  /** sha256 of the root file system's tar (the engine calls it the layer's diff id). */
  content: digest,
  /** sha256 of the image's configuration, which names `content`. */
  id: digest,
  /** Debian's, `name=version`, sorted. */
  packages: z.array(z.string().regex(/^[^=\s]+=[^=\s]+$/)),
});
export type ImageLock = z.infer<typeof ImageLock>;

export async function findLock(name: string, imagesDir: string): Promise<ImageLock | undefined> {
  const path = join(imagesDir, name, 'lock.json');
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  try {
    return ImageLock.parse(JSON.parse(text));
  } catch (error) {
    throw new RunnerError('invalid_request', `images/${name}/lock.json cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

export async function writeLock(lock: ImageLock, imagesDir: string): Promise<void> {
  await writeWhole(join(imagesDir, lock.image, 'lock.json'), `${JSON.stringify(lock, undefined, 2)}\n`);
}

/** What differs, in lines for people; empty means that the two are the same image. */
export function lockDifferences(locked: ImageLock, found: ImageLock): readonly string[] {
  const lines: string[] = [];
  const compare = (what: string, was: string, is: string): void => {
    if (was !== is) lines.push(`${what}: locked ${was}, found ${is}`);
  };
  compare('architecture', locked.architecture, found.architecture);
  compare('recipe', locked.recipe, found.recipe);
  compare('made from', locked.source, found.source);
  lines.push(...listDifferences('package', byName(locked.packages), byName(found.packages)));
  const npm = (lock: ImageLock): ReadonlyMap<string, string> =>
    new Map(lock.npm.map((pin) => [pin.name, `${pin.version} ${pin.integrity}`]));
  lines.push(...listDifferences('npm package', npm(locked), npm(found)));
  compare('content', locked.content, found.content);
  compare('image id', locked.id, found.id);
  return lines;
}

export function lockDigest(lock: ImageLock): Digest {
  return digestOf(canonicalJson(lock));
}

/** A reader never sees half of it. */
export async function writeWhole(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.new`;
  await writeFile(temporary, text);
  await rename(temporary, path);
}

function byName(packages: readonly string[]): ReadonlyMap<string, string> {
  return new Map(packages.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}

function listDifferences(what: string, was: ReadonlyMap<string, string>, is: ReadonlyMap<string, string>): string[] {
  return [...new Set([...was.keys(), ...is.keys()])].sort().flatMap((name) => {
    const [old, now] = [was.get(name), is.get(name)];
    if (old === now) return [];
    if (old === undefined) return [`${what} ${name}: added, ${now}`];
    if (now === undefined) return [`${what} ${name}: gone, was ${old}`];
    return [`${what} ${name}: ${old} -> ${now}`];
  });
}
