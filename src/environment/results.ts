import { createReadStream, createWriteStream, lstatSync } from 'node:fs';
import { chown, lchown, link, mkdir, mkdtemp, readdir, rename, rm, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { extract } from 'tar-stream';
import type { Digest } from '../digest.ts';
import { decodePath } from '../bytes-path.ts';
import { RunnerError } from '../errors.ts';
import { runProgram } from '../host-program.ts';
import { toolGid, toolUid } from '../sandbox/environment.ts';
import type { Scope } from '../workspace/scope/scope.ts';
import { hostPath } from '../workspace/base/host-path.ts';
import { resultsDir } from './setup-script.ts';

/**
 * What setup left in its workspace, kept once as a directory of this machine: an overlay shows it to every run, and nothing
 * is copied. It belongs to the tools' user, as it would if a tool had made it. Promises:
 *  - it is there whole, on disk, or not at all, and is never written to again;
 *  - nothing of the archive is written through a link, or anywhere but in this directory.
 * Only root can keep it; others copy the results into each run (`offer.ts`).
 */
export async function keepResults(dataDir: string, image: Digest, rootfs: string): Promise<void> {
  const directory = placeOf(dataDir, image);
  if (process.getuid?.() !== 0 || findResults(dataDir, image) !== undefined) return;
  await mkdir(dirname(directory), { recursive: true, mode: 0o700 });
  const partial = await mkdtemp(join(dirname(directory), '.partial-'));
  try {
    const tree = join(partial, 'tree');
    await mkdir(tree, { mode: 0o755 });
    await unpackResults(rootfs, tree);
    if ((await readdir(tree)).length === 0) return;
    const env = { PATH: '/usr/bin:/bin' };
    const { code, why } = await runProgram('sync', ['-f', tree], { env, timeoutMs: syncMs, outputBytesMax: 64 * 1024 });
    if (code !== 0) throw new RunnerError('data_dir_unusable', `sync -f ${tree} failed: ${why || `exit code ${code}`}`);
    await rename(tree, directory);
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}

/** Undefined when they were not kept: built by an earlier version, or not by root. */
export function findResults(dataDir: string, image: Digest): string | undefined {
  const directory = placeOf(dataDir, image);
  const there = lstatSync(directory, { throwIfNoEntry: false });
  return there?.isDirectory() === true ? directory : undefined;
}

/** Looked at only as far as the globs alone do not tell: an exclusion that could be anywhere makes that everything. */
export async function isAllScratch(results: string, scope: Scope): Promise<boolean> {
  const places = [''];
  for (let place = places.pop(); place !== undefined; place = places.pop()) {
    const below = place === '' ? '' : `${place}/`;
    for (const entry of await readdir(hostPath(results, place), { withFileTypes: true, encoding: 'buffer' })) {
      const path = `${below}${decodePath(entry.name)}`;
      if (!scope.isScratch(path)) return false;
      if (entry.isDirectory() && !scope.isScratchBelow(path)) places.push(path);
    }
  }
  return true;
}

/** Absent is fine. Only when no run uses the image any more. */
export async function removeResults(dataDir: string, image: Digest): Promise<void> {
  await rm(placeOf(dataDir, image), { recursive: true, force: true });
}

function placeOf(dataDir: string, image: Digest): string {
  return join(dataDir, 'environments', 'results', image.slice('sha256:'.length));
}

type Entry = ReturnType<typeof extract> extends AsyncIterable<infer Each> ? Each : never;

const syncMs = 300_000;
const entriesMax = 1_000_000;

async function unpackResults(rootfs: string, tree: string): Promise<void> {
  const entries = extract();
  const reading = pipeline(createReadStream(rootfs), entries);
  reading.catch(() => undefined); // it is awaited below, after the entries
  const directories = new Set(['']);
  let count = 0;
  for await (const entry of entries) {
    const path = below(entry.header.name);
    if (path === undefined || path === '') entry.resume();
    else if (++count > entriesMax) throw broken(path, `it has more than ${entriesMax} files`);
    else if (!directories.has(dirname(`/${path}`).slice(1))) throw broken(path, 'its directory is none');
    else {
      await writeEntry(entry, tree, path, directories);
      if (entry.header.type === 'directory') directories.add(path);
    }
  }
  await reading;
}

async function writeEntry(entry: Entry, tree: string, path: string, directories: ReadonlySet<string>): Promise<void> {
  const { type, mode, linkname } = entry.header;
  const at = join(tree, path);
  switch (type) {
    case 'directory':
      await mkdir(at, { mode: 0o755 });
      return chown(at, toolUid, toolGid);
    case 'file':
      // `wx`: never what is there already, and so never through a link.
      await pipeline(entry, createWriteStream(at, { flags: 'wx', mode: (mode & 0o111) === 0 ? 0o644 : 0o755 }));
      return lchown(at, toolUid, toolGid);
    case 'symlink':
      await symlink(linkname ?? '', at);
      break;
    case 'link': {
      const target = below(linkname ?? '');
      if (target === undefined || !directories.has(dirname(`/${target}`).slice(1)))
        throw broken(path, 'it is another name of a file that is not there');
      await link(join(tree, target), at);
      break;
    }
    default:
      throw broken(path, 'it is neither file, directory nor link');
  }
  entry.resume();
  await lchown(at, toolUid, toolGid);
}

/** Where it lies in what setup left; undefined when it is no part of that. */
function below(name: string): string | undefined {
  const whole = `/${name.replace(/\/+$/, '')}`;
  if (whole === resultsDir) return '';
  if (!whole.startsWith(`${resultsDir}/`)) return undefined;
  const path = whole.slice(resultsDir.length + 1);
  if (path.split('/').some((part) => part === '' || part === '.' || part === '..')) throw broken(path, 'it is no name');
  return path;
}

function broken(path: string, why: string): RunnerError {
  return new RunnerError(
    'engine_failed',
    `setup left ${JSON.stringify(path.slice(0, 200))}, which cannot be kept: ${why}`,
  );
}
