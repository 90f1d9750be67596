import { createHash } from 'node:crypto';
import { closeSync, fchmodSync, mkdirSync, openSync, readSync, symlinkSync, writeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { encodePath } from '../bytes-path.ts';
import type { Digest } from '../digest.ts';
import { findInTar, type TarSource } from '../tools/archive/read-tar.ts';
import { archiveRefused, type TarItem, type TarLimits } from '../tools/archive/tar-entry.ts';
import { hostName } from '../workspace/base/host-path.ts';
import type { Node } from '../workspace/change-set.ts';
import { ancestorsOf, sortedByBytes } from '../workspace/diff.ts';
import { digestOfTree } from '../workspace/manifest.ts';

export interface Unpacked {
  readonly digest: Digest;
  readonly files: number;
  readonly bytes: number;
}

const pieceBytes = 1_048_576;
const itemsAtOnce = 64;

/**
 * An archive that lies on disk, as files below `tree`, which is empty. Promises:
 *  - all of it is checked before anything is written, by the rules of every archive (`read-tar.ts`), and no `.git` is in it: what
 *    git makes of a directory is for the machine's own repositories;
 *  - nothing is written through a link: links come last, and what is there already is never opened;
 *  - modes are 0644 and 0755; of the rest nothing is carried.
 */
export async function unpackUpload(
  descriptor: number,
  length: number,
  tree: string,
  limits: TarLimits,
): Promise<Unpacked> {
  const items = await findInTar(sourceOf(descriptor, length), limits);
  refuseRepositories(items);
  const nodes = new Map<string, Node>();
  const buffer = Buffer.allocUnsafe(pieceBytes);
  let [files, bytes] = [0, 0];
  for (const [n, item] of items.entries()) {
    if (n % itemsAtOnce === 0) await setImmediate();
    // The outermost first: `tar -T` of what git tracks names files alone.
    for (const directory of [...ancestorsOf(item.path).toReversed(), ...(item.type === 'directory' ? [item.path] : [])])
      if (!nodes.has(directory)) {
        mkdirSync(hostName(tree, directory), { mode: 0o755 });
        nodes.set(directory, { kind: 'directory' });
      }
    if (item.type === 'symlink') nodes.set(item.path, { kind: 'symlink', target: item.target });
    if (item.type !== 'file') continue;
    const mode = (item.mode & 0o100) === 0 ? 0o644 : 0o755;
    const digest = await writeFile(descriptor, item, hostName(tree, item.path), mode, buffer);
    nodes.set(item.path, { kind: 'file', mode, digest, sizeBytes: item.sizeBytes });
    files += 1;
    bytes += item.sizeBytes;
  }
  for (const [path, node] of nodes)
    if (node.kind === 'symlink') symlinkSync(encodePath(node.target), hostName(tree, path));
  return { digest: digestOfTree(sortedByBytes(nodes)), files, bytes };
}

function sourceOf(descriptor: number, length: number): TarSource {
  return {
    length,
    read: (start, end) => {
      const bytes = Buffer.alloc(end - start);
      if (readSync(descriptor, bytes, 0, bytes.length, start) < bytes.length) throw archiveRefused('it is cut off');
      return bytes;
    },
  };
}

function refuseRepositories(items: readonly TarItem[]): void {
  const found = items.find(({ path }) => path.split('/').some((part) => part.toLowerCase() === '.git'));
  if (found !== undefined)
    throw archiveRefused(
      `${JSON.stringify(found.path.slice(0, 200))}: a workspace is sent without its repository, leave .git out`,
    );
}

async function writeFile(
  from: number,
  { start, sizeBytes }: TarItem,
  target: Buffer | string,
  mode: number,
  buffer: Buffer,
): Promise<Digest> {
  const hash = createHash('sha256');
  const file = openSync(target, 'wx', mode);
  try {
    fchmodSync(file, mode); // whatever the umask is
    for (let at = 0; at < sizeBytes;) {
      const read = readSync(from, buffer, 0, Math.min(buffer.length, sizeBytes - at), start + at);
      if (read === 0) throw archiveRefused('it is cut off');
      for (let done = 0; done < read;) done += writeSync(file, buffer, done, read - done);
      hash.update(buffer.subarray(0, read));
      at += read;
      if (at < sizeBytes) await setImmediate();
    }
  } finally {
    closeSync(file);
  }
  return `sha256:${hash.digest('hex')}`;
}
