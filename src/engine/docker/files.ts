import { Readable } from 'node:stream';
import { extract, pack } from 'tar-stream';
import { canonicalJson, digestOf, type Digest } from '../../digest.ts';
import { RunnerError } from '../../errors.ts';
import type { VolumeFile } from '../engine.ts';

/** Names the content of a volume: paths, modes and bytes. */
export function digestOfFiles(files: readonly VolumeFile[]): Digest {
  const listed = files.map((file) => ({ path: file.path, mode: file.mode, digest: digestOf(file.bytes) }));
  return digestOf(canonicalJson(listed.sort((a, b) => (a.path < b.path ? -1 : 1))));
}

/** A tar of the files and their parents, all owned by root, without times. */
export async function packFiles(files: readonly VolumeFile[]): Promise<Buffer> {
  const tar = pack();
  const owner = { uid: 0, gid: 0, mtime: new Date(0) };
  for (const path of parentsOf(files)) tar.entry({ ...owner, name: `${path}/`, type: 'directory', mode: 0o755 });
  for (const file of files) tar.entry({ ...owner, name: plain(file.path), mode: file.mode }, Buffer.from(file.bytes));
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Compares an archive of the whole volume, as the engine gives it, with the files; says the first difference. */
export async function checkFiles(archive: Buffer, files: readonly VolumeFile[]): Promise<string | undefined> {
  const missing = new Map(files.map((file) => [plain(file.path), file]));
  const parents = parentsOf(files);
  const entries = extract();
  Readable.from([archive]).pipe(entries);
  for await (const entry of entries) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry as AsyncIterable<Buffer>) chunks.push(chunk);
    const { name, type, mode, uid } = entry.header;
    const path = name.split('/').slice(1).join('/').replace(/\/$/, ''); // the first part is the mount point
    const file = missing.get(path);
    if (type === 'directory' && (path === '' || parents.includes(path))) continue;
    if (file === undefined || type !== 'file') return `${JSON.stringify(path)} (${type}) does not belong there`;
    if (uid !== 0 || (mode & 0o7777) !== file.mode) return `${path} has owner ${uid} and mode ${mode.toString(8)}`;
    if (digestOf(Buffer.concat(chunks)) !== digestOf(file.bytes)) return `${path} has other bytes`;
    missing.delete(path);
  }
  const [first] = missing.keys();
  return first === undefined ? undefined : `${first} is missing`;
}

/** What an archive of the files may take at most, headers and padding included. */
export function filesBytesMax(files: readonly VolumeFile[]): number {
  return files.reduce((sum, file) => sum + file.bytes.length + 8192, 1024 * 1024);
}

function parentsOf(files: readonly VolumeFile[]): readonly string[] {
  const parents = new Set<string>();
  for (const file of files) {
    const parts = plain(file.path).split('/');
    for (let depth = 1; depth < parts.length; depth++) parents.add(parts.slice(0, depth).join('/'));
  }
  return [...parents].sort();
}

function plain(path: string): string {
  const parts = path.split('/');
  if (path.length > 90 || parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw new RunnerError('invalid_request', `${JSON.stringify(path)} is not a path inside a volume.`);
  }
  return path;
}
