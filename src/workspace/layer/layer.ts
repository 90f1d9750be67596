import { chmod, chown, lstat, mkdir, open, rm, rmdir, statfs } from 'node:fs/promises';
import path from 'node:path';

import { messageOf, RunnerError } from '../../errors.ts';
import { runProgram } from '../../host-program.ts';
import { toolGid, toolUid } from '../../sandbox/environment.ts';
import type { Ownership } from '../base/ownership.ts';

/**
 * The writable layer of one run: a file system of its own in a sparse image, mounted on this machine. Promises:
 *  - it holds what the run may write and not much more (files and bytes); what is full says so, and nothing else fills;
 *  - mounted `nosuid,nodev`, in a directory that only its owner can enter;
 *  - nothing in it is ever opened from here: it is listed and looked at, as links at most;
 *  - `remove` may be called twice, and by another process after a crash.
 */
export class Layer {
  /** Directories of one file system, for an overlay. */
  readonly upper: string;
  readonly work: string;

  private constructor(directory: string) {
    this.upper = Layer.upperOf(directory);
    this.work = Layer.workOf(directory);
  }

  static upperOf(directory: string): string {
    return path.join(directory, 'mount', 'upper');
  }

  static workOf(directory: string): string {
    return path.join(directory, 'mount', 'work');
  }

  /** From then on `isThere`: whoever dies while it makes the layer leaves one that is found. */
  static async announce(directory: string): Promise<void> {
    await mkdir(path.join(directory, 'mount'), { recursive: true, mode: 0o700 });
  }

  static async make(directory: string, bound: LayerBound, root: Ownership): Promise<Layer> {
    const image = path.join(directory, 'image');
    const mount = path.join(directory, 'mount');
    try {
      await Layer.announce(directory);
      await refuseFullDisk(directory, bound.bytes);
      await truncated(image, imageBytes(bound));
      await tool('mkfs.ext4', [...mkfsOptions, '-N', String(bound.inodes + ownInodes), image]);
      await tool('mount', ['-t', 'ext4', '-o', mountOptions, image, mount]);
      const layer = new Layer(directory);
      await mkdir(layer.work, { mode: 0o700 });
      await mkdir(layer.upper, { mode: 0o700 });
      if (root.owner === 'tool') await chown(layer.upper, toolUid, toolGid);
      await chmod(layer.upper, root.mode);
      await checkBound(mount, bound);
      return layer;
    } catch (error) {
      await Layer.remove(directory).catch(() => undefined); // found again by `glovebox gc`
      throw error;
    }
  }

  /**
   * Throws `data_dir_unusable` when what was written did not all reach the image: the disk below was full, and tools that
   * wrote were not told. The kernel says so once for each loss: whoever asks remembers.
   */
  static async checkWritten(directory: string): Promise<void> {
    try {
      await tool('sync', ['-f', path.join(directory, 'mount')], syncTimeoutMs);
    } catch (cause) {
      throw new RunnerError(
        'data_dir_unusable',
        `the workspace has lost what was written to it, so that there is no diff (${messageOf(cause)}); ` +
          `see that ${directory} has room, and run it again`,
        { cause },
      );
    }
  }

  /** Where a run's layer was left, if it was. */
  static async isThere(directory: string): Promise<boolean> {
    return (await lstat(directory).catch(() => undefined)) !== undefined;
  }

  static async remove(directory: string): Promise<void> {
    const mount = path.join(directory, 'mount');
    if (await isMountPoint(mount)) await tool('umount', [mount]);
    // Never recursive here: what is still mounted stays as it is.
    await rmdir(mount).catch(ignoreMissing);
    await rm(directory, { recursive: true, force: true });
  }
}

export interface LayerBound {
  readonly bytes: number;
  readonly inodes: number;
}

/** No journal: after a crash of the machine the run is over, and its layer with it. */
const mkfsOptions = '-q -F -m 0 -b 4096 -I 256 -O ^has_journal,^resize_inode -E nodiscard,lazy_itable_init=1'.split(
  ' ',
);
/** For the same reason nobody waits for the disk: `nobarrier`. */
const mountOptions = 'loop,nosuid,nodev,noatime,noinit_itable,nobarrier';
const toolTimeoutMs = 20_000;
const syncTimeoutMs = 120_000;
const inodeBytes = 256;
/** What ext4 and the overlay keep for themselves. */
const ownInodes = 64;
const MiB = 1024 * 1024;

/** Inode tables and maps, and what ext4 holds back (2 %, at most 4096 blocks), come on top of what was promised. */
function imageBytes(bound: LayerBound): number {
  const tables = (bound.inodes + ownInodes) * inodeBytes;
  const heldBack = Math.min(16 * MiB, Math.ceil((bound.bytes + tables) / 48));
  const whole = bound.bytes + tables + heldBack + Math.ceil(bound.bytes / 512) + 2 * MiB;
  return Math.ceil(whole / MiB) * MiB;
}

async function truncated(file: string, bytes: number): Promise<void> {
  const handle = await open(file, 'wx', 0o600);
  try {
    await handle.truncate(bytes);
  } finally {
    await handle.close();
  }
}

/** The image is sparse: a disk without room for it would turn a full workspace into lost writes. */
async function refuseFullDisk(directory: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  if (bavail * bsize >= bytes) return;
  throw new RunnerError(
    'policy_unenforceable',
    `the disk of ${directory} has ${bavail * bsize} bytes left, and a workspace of ${bytes} is asked for; ` +
      'make room, lower limits.workspace, or move the data directory',
  );
}

async function checkBound(mount: string, bound: LayerBound): Promise<void> {
  const { bavail, bsize, ffree } = await statfs(mount);
  if (bavail * bsize >= bound.bytes && ffree >= bound.inodes) return;
  throw new RunnerError(
    'internal',
    `the layer at ${mount} holds ${bavail * bsize} bytes and ${ffree} files instead of ${bound.bytes} and ${bound.inodes}`,
  );
}

async function isMountPoint(directory: string): Promise<boolean> {
  try {
    const [own, above] = [await lstat(directory), await lstat(path.dirname(directory))];
    return own.dev !== above.dev;
  } catch (error) {
    ignoreMissing(error as NodeJS.ErrnoException);
    return false;
  }
}

async function tool(name: string, args: readonly string[], timeoutMs = toolTimeoutMs): Promise<void> {
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };
  const { code, why, stderr } = await runProgram(name, args, { env, timeoutMs, outputBytesMax: 64 * 1024 });
  if (code === 0) return;
  const said = [why, code === undefined ? '' : `exit code ${code}`, stderr.toString('utf8').trim()];
  const message = `${name} ${args.at(-1) ?? ''} failed: ${said.filter((text) => text !== '').join(': ')}`;
  throw new RunnerError('policy_unenforceable', message.slice(0, 1000));
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
