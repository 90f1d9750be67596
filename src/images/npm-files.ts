import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { extract, pack } from 'tar-stream';
import { z } from 'zod';
import { RunnerError } from '../errors.ts';
import { run, type Progress } from './bootstrap.ts';
import type { NpmPin } from './lock.ts';
import type { NpmFiles, Recipe } from './recipe.ts';
import { bytesOf } from './rootfs.ts';

interface NpmSource {
  readonly recipe: Recipe;
  readonly architecture: string;
  /** What the lock says; a package that is not here is taken at the newest version of its range. */
  readonly pins: readonly NpmPin[];
  readonly dir: string;
  readonly onProgress: Progress;
}

interface PlacedFile {
  readonly mode: number;
  readonly bytes: Buffer;
}

const unpackedBytesMax = 512 * 1024 * 1024;

/**
 * Fetches what the recipe takes from npm, through the npm client and whatever registry it is set up for, and lays it out as
 * a tar. A package whose sha512 is not the pinned one is refused, wherever it came from.
 */
export async function packNpmFiles(
  source: NpmSource,
): Promise<{ readonly tar: string; readonly pins: readonly NpmPin[] }> {
  const placed = new Map<string, PlacedFile>();
  const links = new Map<string, string>();
  const pins: NpmPin[] = [];
  for (const wanted of source.recipe.npm) {
    const { pin, tarball } = await fetchPackage(wanted, source);
    pins.push(pin);
    await place(wanted, tarball, placed);
    for (const [path, target] of Object.entries(wanted.links ?? {})) links.set(path, target);
  }
  const tar = join(source.dir, 'files.tar');
  await writeTar(tar, placed, links, source.recipe.sourceDateEpoch);
  return { tar, pins };
}

const PackAnswer = z.tuple([z.object({ name: z.string(), version: z.string(), filename: z.string() })]);

async function fetchPackage(wanted: NpmFiles, source: NpmSource): Promise<{ pin: NpmPin; tarball: string }> {
  const name = typeof wanted.name === 'string' ? wanted.name : wanted.name[source.architecture];
  if (name === undefined) {
    throw new RunnerError(
      'engine_failed',
      `image ${source.recipe.image} takes a program from npm that is not there for ${source.architecture}`,
    );
  }
  const locked = source.pins.find((pin) => pin.name === name);
  const spec = `${name}@${locked?.version ?? wanted.range}`;
  source.onProgress(`fetching ${spec} (npm)`);
  const answer = PackAnswer.parse(JSON.parse(await npmPack(spec, source.dir)))[0];
  const tarball = join(source.dir, answer.filename.replaceAll('/', '-').replace(/^@/, ''));
  const integrity = `sha512-${createHash('sha512')
    .update(await readFile(tarball))
    .digest('base64')}`;
  if (locked !== undefined && locked.integrity !== integrity) {
    const message = `${spec} is not what the lock of image ${source.recipe.image} pins: expected ${locked.integrity}, got ${integrity}; nothing was built. If the package was replaced on purpose, review it and use --update`;
    throw new RunnerError('image_not_allowed', message);
  }
  return { pin: { name, version: answer.version, integrity }, tarball };
}

async function npmPack(spec: string, dir: string): Promise<string> {
  const args = ['pack', spec, '--json', '--silent', '--ignore-scripts', '--pack-destination', dir];
  for (let attempt = 1; ; attempt++) {
    try {
      return await run('npm', args, { timeoutMs: 180_000, cwd: dir });
    } catch (error) {
      if (attempt === 3) throw error;
    }
  }
}

async function place(wanted: NpmFiles, tarball: string, placed: Map<string, PlacedFile>): Promise<void> {
  const entries = extract();
  const reading = pipeline(createReadStream(tarball), createGunzip(), entries);
  let total = 0;
  for await (const entry of entries) {
    const name = entry.header.name.split('/').slice(1).join('/');
    const target = targetOf(name, wanted.files);
    total += entry.header.size;
    if (total > unpackedBytesMax)
      throw new RunnerError('image_not_allowed', `an npm package unpacks to more than ${unpackedBytesMax} bytes`);
    if (target === undefined || entry.header.type !== 'file') {
      entry.resume();
      continue;
    }
    placed.set(target, { mode: (entry.header.mode & 0o111) === 0 ? 0o644 : 0o755, bytes: await bytesOf(entry) });
  }
  await reading;
}

function targetOf(name: string, files: NpmFiles['files']): string | undefined {
  if (name === '' || posix.normalize(`/${name}`) !== `/${name}`) return undefined;
  const all = files['.'];
  return files[name] ?? (all === undefined ? undefined : `${all}/${name}`);
}

async function writeTar(
  path: string,
  placed: ReadonlyMap<string, PlacedFile>,
  links: ReadonlyMap<string, string>,
  epoch: number,
): Promise<void> {
  const tar = pack();
  const writing = pipeline(tar, createWriteStream(path));
  const common = { uid: 0, gid: 0, mtime: new Date(epoch * 1000) };
  const leafs = [...placed.keys(), ...links.keys()];
  const folders = new Set(leafs.flatMap((leaf) => parentsOf(leaf)));
  for (const name of [...folders, ...leafs].sort()) {
    const [file, target] = [placed.get(name), links.get(name)];
    if (file !== undefined) tar.entry({ ...common, name, mode: file.mode }, file.bytes);
    else if (target !== undefined) tar.entry({ ...common, name, type: 'symlink', linkname: target, mode: 0o777 });
    else tar.entry({ ...common, name: `${name}/`, type: 'directory', mode: 0o755 });
  }
  tar.finalize();
  await writing;
}

function parentsOf(path: string): readonly string[] {
  const parts = path.split('/').slice(0, -1);
  return parts.map((_, index) => parts.slice(0, index + 1).join('/'));
}
