import { createReadStream, createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract, pack } from 'tar-stream';
import { z } from 'zod';
import { digestOf, type Digest } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import type { Recipe } from './recipe.ts';
import { bytesOf, readRootfs, type RootfsFacts } from './rootfs.ts';

/** An image's configuration as the bytes that its id is the digest of. The same recipe and content give the same id. */
export interface ImageDescription {
  readonly id: Digest;
  readonly config: Buffer;
  readonly tags: readonly string[];
}

export function describeImage(
  recipe: Pick<Recipe, 'image' | 'digest' | 'sourceDateEpoch'>,
  facts: Pick<RootfsFacts, 'architecture' | 'content'>,
): ImageDescription {
  const created = new Date(recipe.sourceDateEpoch * 1000).toISOString();
  const config = Buffer.from(
    JSON.stringify({
      architecture: facts.architecture,
      config: {
        Cmd: ['/bin/bash'],
        Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'LANG=C.UTF-8'],
        Labels: imageLabels(recipe.image, recipe.digest, facts.content),
        User: '10001:10001',
        WorkingDir: '/workspace',
      },
      created,
      history: [{ created, created_by: `glovebox image build ${recipe.image}` }],
      os: 'linux',
      rootfs: { diff_ids: [facts.content], type: 'layers' },
    }),
  );
  const short = facts.content.slice('sha256:'.length, 'sha256:'.length + 12);
  return {
    id: digestOf(config),
    config,
    tags: [`glovebox/${recipe.image}:${short}`, `glovebox/${recipe.image}:latest`],
  };
}

export function imageLabels(image: string, recipe: Digest, content: Digest): Readonly<Record<string, string>> {
  return { 'glovebox.image': image, 'glovebox.image.content': content, 'glovebox.image.recipe': recipe };
}

/** The form of `docker save`, which every engine loads. */
export function writeImageArchive(description: ImageDescription, rootfsPath: string, rootfsBytes: number): Readable {
  const tar = pack();
  const config = `${description.id.slice('sha256:'.length)}.json`;
  const fill = async (): Promise<void> => {
    tar.entry({ name: config }, description.config);
    await pipeline(createReadStream(rootfsPath), tar.entry({ name: 'layer.tar', size: rootfsBytes }));
    tar.entry(
      { name: 'manifest.json' },
      JSON.stringify([{ Config: config, RepoTags: description.tags, Layers: ['layer.tar'] }]),
    );
    tar.finalize();
  };
  fill().catch((error: Error) => tar.destroy(error));
  return Readable.from(tar);
}

/** What an archive from an engine really holds: read from its bytes, believed in nothing. */
export interface ReadImage {
  readonly id: Digest;
  readonly config: z.infer<typeof ImageConfiguration>;
  readonly rootfs: RootfsFacts;
}

const Manifest = z.tuple([z.object({ Config: z.string(), Layers: z.array(z.string()) })]);
const ImageConfiguration = z.object({
  architecture: z.string(),
  config: z.object({ Labels: z.record(z.string(), z.string()).nullish() }),
  rootfs: z.object({ diff_ids: z.array(z.string()) }),
});

/** Writes the one layer of an image of ours to `path`. The caller compares its digest with the one it expects. */
export async function extractLayer(archive: Readable, path: string, what: string): Promise<void> {
  const entries = extract();
  let layers = 0;
  const copying = async (): Promise<void> => {
    for await (const entry of entries) {
      if (entry.header.size <= smallBytesMax || entry.header.type !== 'file') entry.resume();
      else if (++layers > 1) throw refused(what, 'it has more than one layer');
      else await pipeline(entry, createWriteStream(path));
    }
  };
  await Promise.all([copying(), pipeline(archive, entries)]);
  if (layers === 0) throw refused(what, 'it has no layer');
}

const smallBytesMax = 1024 * 1024;
const entriesMax = 1000;

/** Reads an image of one layer, as ours are; anything else is refused with `image_not_allowed`. */
export async function readImageArchive(archive: Readable, what: string): Promise<ReadImage> {
  const entries = extract();
  const [seen] = await Promise.all([readParts(entries, what), pipeline(archive, entries)]);
  const manifest = Manifest.safeParse(parseJson(seen.small.get('manifest.json')));
  if (!manifest.success) throw refused(what, 'its archive has no manifest of one image');
  const [{ Config, Layers }] = manifest.data;
  const [layer, ...more] = Layers;
  const rootfs = layer === undefined ? undefined : seen.layers.get(layer);
  if (rootfs === undefined || more.length > 0)
    throw refused(what, `it has ${Layers.length} layers where ours have one`);
  const bytes = seen.small.get(Config);
  const config = ImageConfiguration.safeParse(parseJson(bytes));
  if (bytes === undefined || !config.success) throw refused(what, 'its configuration cannot be read');
  return { id: digestOf(bytes), config: config.data, rootfs };
}

async function readParts(
  entries: ReturnType<typeof extract>,
  what: string,
): Promise<{ small: ReadonlyMap<string, Buffer>; layers: ReadonlyMap<string, RootfsFacts> }> {
  const small = new Map<string, Buffer>();
  const layers = new Map<string, RootfsFacts>();
  let count = 0;
  for await (const entry of entries) {
    if (++count > entriesMax) throw refused(what, `its archive has more than ${entriesMax} entries`);
    const { name, size, type } = entry.header;
    if (type !== 'file') entry.resume();
    else if (size > smallBytesMax) layers.set(name, await readLayer(entry, what));
    else small.set(name, await bytesOf(entry));
  }
  return { small, layers };
}

async function readLayer(entry: AsyncIterable<unknown>, what: string): Promise<RootfsFacts> {
  try {
    return await readRootfs(Readable.from(entry));
  } catch (error) {
    throw new RunnerError('image_not_allowed', `${what}: a layer cannot be read as a tar`, { cause: error });
  }
}

function parseJson(bytes: Buffer | undefined): unknown {
  try {
    return bytes === undefined ? undefined : JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}

function refused(what: string, why: string): RunnerError {
  return new RunnerError(
    'image_not_allowed',
    `${what} is not an image of ours: ${why}; run \`glovebox image build\` to make it anew`,
  );
}
