import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { digestPattern, type Digest } from '../digest.ts';
import type { Engine, ImageFacts } from '../engine/engine.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { writeWhole } from './lock.ts';

const digest = z.custom<Digest>((value) => typeof value === 'string' && digestPattern.test(value), 'expected sha256:…');

const AcceptedImage = z.strictObject({
  /** The engine's id of the image. */
  id: digest,
  content: digest,
  recipe: digest,
  /** Of the lock that the image was compared with. */
  lock: digest,
  /** `moved`: built here with other package versions than the lock's. */
  state: z.enum(['locked', 'moved']),
  acceptedAt: z.iso.datetime(),
});
export type AcceptedImage = z.infer<typeof AcceptedImage>;

/**
 * The list by which images are accepted, `images.json` in the data directory, written by `glovebox image build`.
 *  - An image runs by its id. A name or tag only looks one up.
 *  - A tag that points elsewhere than the list says is refused, even if it points at another accepted image.
 *  - A list that cannot be read accepts nothing.
 */
export const AcceptedImages = z.strictObject({ version: z.literal(1), images: z.record(z.string(), AcceptedImage) });
export type AcceptedImages = z.infer<typeof AcceptedImages>;

/** The id to run for a name (`base`), a tag or an id. `policyIds` are ids that the policy itself names. */
export async function resolveImage(
  engine: Pick<Engine, 'findImage'>,
  accepted: AcceptedImages,
  reference: string,
  policyIds: readonly string[] = [],
): Promise<string> {
  const name = ownName(reference);
  if (name !== undefined) return resolveOwn(engine, accepted, reference, name);
  const found = await engine.findImage(reference);
  const allowed = new Set([...policyIds, ...Object.values(accepted.images).map((image) => image.id)]);
  if (digestPattern.test(reference) && !allowed.has(reference)) throw notAllowed(reference, reference);
  if (found === undefined) {
    throw new RunnerError(
      'image_not_found',
      `image ${reference} is not in the engine; load or pull it there, then try again`,
    );
  }
  if (!allowed.has(found.id)) throw notAllowed(reference, found.id);
  return found.id;
}

/** The same where the list alone says it, which does not tell whether the engine has it; undefined for tags, which can move. */
export function findAccepted(
  { images }: AcceptedImages,
  reference: string,
  policyIds: readonly string[] = [],
): string | undefined {
  if (digestPattern.test(reference))
    return [...policyIds, ...Object.values(images).map(({ id }) => id)].find((id) => id === reference);
  const name = reference.includes(':') ? undefined : ownName(reference);
  return name !== undefined && Object.hasOwn(images, name) ? images[name]?.id : undefined;
}

/** Read at once: every open asks, and a trip through the thread pool costs more than a few bytes do. */
export async function readAccepted(dataDir: string): Promise<AcceptedImages> {
  const path = join(dataDir, 'images.json');
  if (!existsSync(path)) return { version: 1, images: {} };
  const text = readFileSync(path, 'utf8');
  try {
    return AcceptedImages.parse(JSON.parse(text));
  } catch (error) {
    const message = `the list of accepted images ${path} cannot be read: ${messageOf(error)}; mend it, or remove it and build the images again`;
    throw new RunnerError('image_not_allowed', message, { cause: error });
  }
}

export async function acceptImage(dataDir: string, name: string, image: AcceptedImage): Promise<void> {
  const { images } = await readAccepted(dataDir);
  await mkdir(dataDir, { recursive: true });
  const list: AcceptedImages = { version: 1, images: { ...images, [name]: image } };
  await writeWhole(join(dataDir, 'images.json'), `${JSON.stringify(list, undefined, 2)}\n`);
}

export async function forgetImage(dataDir: string, name: string): Promise<void> {
  const { images } = await readAccepted(dataDir);
  const kept = Object.fromEntries(Object.entries(images).filter(([other]) => other !== name));
  const list: AcceptedImages = { version: 1, images: kept };
  await writeWhole(join(dataDir, 'images.json'), `${JSON.stringify(list, undefined, 2)}\n`);
}

/** `base` for `base`, `glovebox/base` and `glovebox/base:anything`. */
function ownName(reference: string): string | undefined {
  return (
    /^(?:glovebox\/)?([a-z][a-z0-9-]{0,31})$/.exec(reference)?.[1] ??
    /^glovebox\/([a-z][a-z0-9-]{0,31}):[\w.-]+$/.exec(reference)?.[1]
  );
}

async function resolveOwn(
  engine: Pick<Engine, 'findImage'>,
  accepted: AcceptedImages,
  reference: string,
  name: string,
): Promise<string> {
  const entry = Object.hasOwn(accepted.images, name) ? accepted.images[name] : undefined;
  if (entry === undefined) {
    throw new RunnerError(
      'image_not_found',
      `image ${name} is not on the list of accepted images; run: glovebox image build ${name}`,
    );
  }
  const found: ImageFacts | undefined = await engine.findImage(reference.includes(':') ? reference : entry.id);
  if (found === undefined) {
    throw new RunnerError(
      'image_not_found',
      `image ${reference} (${entry.id}) is not in the engine; run: glovebox image build ${name}`,
    );
  }
  if (found.id !== entry.id) throw notAllowed(reference, found.id, `${name} was accepted as ${entry.id}`);
  return found.id;
}

function notAllowed(reference: string, id: string, more?: string): RunnerError {
  const what = reference === id ? `image ${id}` : `image ${reference} is ${id}, which`;
  const why = more === undefined ? '' : ` (${more})`;
  const next =
    'run `glovebox image verify` to see what changed, `glovebox image build` to make it anew, or name the id in the policy';
  return new RunnerError('image_not_allowed', `${what} is not on the list of accepted images${why}; ${next}`);
}
