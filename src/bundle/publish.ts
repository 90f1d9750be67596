import { open, readdir, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { messageOf, RunnerError } from '../errors.ts';
import { failpoint } from '../failpoint.ts';
import { newId } from '../ids.ts';

/** Bytes as they come: made here, or sent by a service. */
interface Publishable {
  readonly chunks: () => AsyncIterable<Uint8Array>;
}

/**
 * Writes a bundle under its name. Promises:
 *  - the name shows a whole bundle or nothing, whenever this process or the machine dies: it is written beside, flushed, renamed;
 *  - a file that is there already and is not this bundle is left alone (`conflict`); the same bundle again is no change;
 *  - what a process that died has left beside goes with the next export of the same name.
 */
export async function publishBundle(bundle: Publishable, path: string): Promise<void> {
  const target = resolve(path);
  const directory = dirname(target);
  const partial = join(directory, `.${basename(target)}.${process.pid}.${newId()}.partial`);
  try {
    await sweep(directory, basename(target));
    await writeTo(partial, bundle);
    await failpoint('export.synced');
    if (await isOther(target, partial))
      throw new RunnerError(
        'conflict',
        `${target} is there already and is something else; remove it, or name another file with -o`,
      );
    await rename(partial, target);
    await failpoint('export.published');
    await flush(directory);
  } catch (cause) {
    await rm(partial, { force: true }).catch(() => undefined); // why it failed is what counts
    if (cause instanceof RunnerError) throw cause;
    const message = `the bundle cannot be written to ${target}: ${messageOf(cause)}`;
    throw new RunnerError('data_dir_unusable', message, { cause });
  }
}

async function writeTo(path: string, bundle: Publishable): Promise<void> {
  const file = await open(path, 'wx', 0o644);
  try {
    await failpoint('export.begun');
    for await (const chunk of bundle.chunks()) await file.writeFile(chunk);
    await failpoint('export.written');
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Whether the name is taken by another content. */
async function isOther(target: string, partial: string): Promise<boolean> {
  const found = await stat(target).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (found === undefined) return false;
  if (!found.isFile() || found.size !== (await stat(partial)).size) return true;
  const [one, other] = [await open(target, 'r'), await open(partial, 'r')];
  try {
    return await differ(one, other);
  } finally {
    await Promise.all([one.close(), other.close()]);
  }
}

async function differ(one: FileHandle, other: FileHandle): Promise<boolean> {
  for (let at = 0; ;) {
    const [a, b] = await Promise.all(
      [one, other].map((file) => file.read(Buffer.alloc(pieceBytes), 0, pieceBytes, at)),
    );
    if (a === undefined || b === undefined || a.bytesRead !== b.bytesRead) return true;
    if (a.bytesRead === 0) return false;
    if (!a.buffer.subarray(0, a.bytesRead).equals(b.buffer.subarray(0, b.bytesRead))) return true;
    at += a.bytesRead;
  }
}

const pieceBytes = 1 << 20;

/** Of processes that are there no more. */
async function sweep(directory: string, name: string): Promise<void> {
  for (const entry of await readdir(directory)) {
    const rest = entry.startsWith(`.${name}.`) ? entry.slice(name.length + 2) : '';
    const pid = /^(\d+)\.[0-9a-z]{26}\.partial$/.exec(rest)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) await rm(join(directory, entry), { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function flush(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
