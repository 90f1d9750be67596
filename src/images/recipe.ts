import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { canonicalJson, digestOf, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { shipped } from '../shipped.ts';

/** Where the shipped recipes, locks and package lists are. */
export const shippedImagesDir = shipped('images');

const imageNamePattern = /^[a-z][a-z0-9-]{0,31}$/;
const debianName = z.string().regex(/^[a-z0-9][a-z0-9+.-]*$/);
const npmName = z.string().regex(/^(@[a-z0-9][a-z0-9._-]*\/)?[a-z0-9][a-z0-9._-]*$/);
/** Inside the root file system, relative, never leaving it. */
const insidePath = z.string().regex(/^(?!.*(^|\/)\.\.?(\/|$))[\w.@+-]+(\/[\w.@+-]+)*$/);

const NpmFiles = z.strictObject({
  /** One name, or one for each architecture where the package holds a binary. */
  name: z.union([npmName, z.record(z.string(), npmName)]),
  /** What `--update` may choose from; the lock then pins one version and its sha512. */
  range: z.string().regex(/^[0-9][0-9.x^~-]*$/),
  /** Path in the package (`.` = all of it) -> path in the image. */
  files: z.record(z.union([z.literal('.'), insidePath]), insidePath),
  /** Symlink in the image -> its target. */
  links: z.record(insidePath, z.string().regex(/^[\w./-]+$/)).optional(),
});
export type NpmFiles = z.infer<typeof NpmFiles>;

const RecipeFile = z.strictObject({
  version: z.literal(1),
  image: z.string().regex(imageNamePattern),
  /** Takes over what is not said here, and adds its packages to these. One level. */
  extends: z.string().regex(imageNamePattern).optional(),
  suite: z
    .string()
    .regex(/^[a-z]+$/)
    .optional(),
  registryBase: z
    .string()
    .regex(/^[a-z0-9./_-]+:[\w.-]+$/)
    .optional(),
  sourceDateEpoch: z.int().positive().optional(),
  packages: z.array(debianName),
  npm: z.array(NpmFiles).optional(),
});

/** What an image is made of, with `extends` resolved. */
export interface Recipe {
  readonly image: string;
  readonly suite: string;
  /** The image that this one is, with files added: it brings no Debian package of its own. */
  readonly addsTo: string | undefined;
  /** The official image that the registry way starts from. */
  readonly registryBase: string;
  /** Seconds; no file in the image is newer. */
  readonly sourceDateEpoch: number;
  /** Sorted, each once. */
  readonly packages: readonly string[];
  readonly npm: readonly NpmFiles[];
  readonly finishScript: Uint8Array;
  /** Changes with anything above. */
  readonly digest: Digest;
}

export async function imageNames(imagesDir: string = shippedImagesDir): Promise<readonly string[]> {
  const folders = (await readdir(imagesDir, { withFileTypes: true })).filter((entry) => entry.isDirectory());
  const files = await Promise.all(folders.map((folder) => readdir(join(imagesDir, folder.name))));
  return folders
    .filter((_, index) => files[index]?.includes('recipe.json'))
    .map((folder) => folder.name)
    .sort();
}

export async function loadRecipe(name: string, imagesDir: string = shippedImagesDir): Promise<Recipe> {
  const own = await readRecipe(name, imagesDir);
  const parent = own.extends === undefined ? undefined : await readRecipe(own.extends, imagesDir);
  if (parent?.extends !== undefined) throw invalid(name, 'extends a recipe that extends another; one level is allowed');
  const { suite, registryBase, sourceDateEpoch } = { ...parent, ...own };
  if (suite === undefined || registryBase === undefined || sourceDateEpoch === undefined) {
    throw invalid(name, 'needs suite, registryBase and sourceDateEpoch, of its own or from what it extends');
  }
  const finishScript = await readFile(join(imagesDir, 'base', 'finish.sh'));
  const content = {
    image: name,
    addsTo: own.packages.length === 0 ? own.extends : undefined,
    suite,
    registryBase,
    sourceDateEpoch,
    packages: [...new Set([...(parent?.packages ?? []), ...own.packages])].sort(),
    npm: [...(parent?.npm ?? []), ...(own.npm ?? [])],
  };
  const digest = digestOf(canonicalJson({ ...content, finishScript: digestOf(finishScript) }));
  return { ...content, finishScript, digest };
}

async function readRecipe(name: string, imagesDir: string): Promise<z.infer<typeof RecipeFile>> {
  const known = await imageNames(imagesDir);
  if (!known.includes(name)) {
    throw new RunnerError(
      'invalid_request',
      `no recipe for image ${JSON.stringify(name)}; there are: ${known.join(', ')}`,
    );
  }
  const path = join(imagesDir, name, 'recipe.json');
  try {
    const recipe = RecipeFile.parse(JSON.parse(await readFile(path, 'utf8')));
    if (recipe.image !== name) throw new Error(`names image ${recipe.image}, expected ${name}`);
    return recipe;
  } catch (error) {
    throw invalid(name, messageOf(error), error);
  }
}

function invalid(name: string, why: string, cause?: unknown): RunnerError {
  return new RunnerError('invalid_request', `images/${name}/recipe.json: ${why}`, { cause });
}
