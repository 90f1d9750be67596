import { constants } from 'node:fs';
import { mkdir, open, readdir, type FileHandle } from 'node:fs/promises';
import { messageOf, RunnerError } from '../../errors.ts';

/**
 * A directory of a repository that may be hostile, held by a descriptor. What is read or written below goes through
 * that descriptor: whoever swaps a directory for a link meanwhile, or put one there before, leads nobody elsewhere.
 */
export class HeldDirectory {
  /** For messages. */
  readonly path: string;
  readonly #handle: FileHandle;
  readonly #owner: { readonly uid: number; readonly gid: number };

  private constructor(path: string, handle: FileHandle, owner: { uid: number; gid: number }) {
    this.path = path;
    this.#handle = handle;
    this.#owner = owner;
  }

  /** `target_refused` where it is a link, or no directory. */
  static async open(path: string): Promise<HeldDirectory> {
    const found = await openDirectory(path, path);
    if (found !== undefined) return found;
    throw new RunnerError('target_refused', `${path} is not there; name a git repository`);
  }

  /** @internal */
  static async of(path: string, handle: FileHandle): Promise<HeldDirectory> {
    const { uid, gid } = await handle.stat();
    return new HeldDirectory(path, handle, { uid, gid });
  }

  /** Undefined where there is nothing of that name; `target_refused` where it is a link, or no directory. */
  async find(name: string): Promise<HeldDirectory | undefined> {
    return openDirectory(this.at(name), `${this.path}/${name}`);
  }

  /** Made where it is missing. */
  async ensure(name: string): Promise<HeldDirectory> {
    const found = await this.find(name);
    if (found !== undefined) return found;
    await mkdir(this.at(name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw refused(`${this.path}/${name}`, error);
    });
    const made = await this.find(name);
    if (made === undefined)
      throw new RunnerError('conflict', `${this.path}/${name} went away while it was used; try again`);
    await this.#give(made.#handle);
    return made;
  }

  /** A name below, for calls that do not follow links. */
  at(name: string): string {
    if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0'))
      throw new RunnerError('internal', `${JSON.stringify(name)} is not one name`);
    return `/proc/self/fd/${this.#handle.fd}/${name}`;
  }

  /** Names, sorted. */
  async list(): Promise<readonly string[]> {
    return (await readdir(`/proc/self/fd/${this.#handle.fd}`)).sort();
  }

  /** Undefined where it is not there. Anything but a file, or a longer one, is `target_refused`. */
  async read(name: string, bytesMax: number): Promise<Buffer | undefined> {
    const shown = `${this.path}/${name}`;
    let file: FileHandle;
    try {
      file = await open(this.at(name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return undefined;
      throw refused(shown, error);
    }
    try {
      const found = await file.stat();
      if (!found.isFile()) throw new RunnerError('target_refused', `${shown} is no file; mend the repository`);
      if (found.size > bytesMax) throw new RunnerError('target_refused', `${shown} is larger than ${bytesMax} bytes`);
      return await file.readFile();
    } finally {
      await file.close();
    }
  }

  /** A new file, on disk when this resolves. `EEXIST` is thrown as it is. */
  async create(name: string, content: Iterable<Uint8Array> | AsyncIterable<Uint8Array>, mode: number): Promise<void> {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const file = await open(this.at(name), flags, mode);
    try {
      await this.#give(file);
      for await (const piece of content) await file.writeFile(piece);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  /** What was made or renamed in it survives a loss of power. */
  async sync(): Promise<void> {
    await this.#handle.sync();
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  /** What root makes in somebody's repository is theirs. */
  async #give(file: FileHandle): Promise<void> {
    if (process.geteuid?.() === 0) await file.chown(this.#owner.uid, this.#owner.gid);
  }
}

async function openDirectory(path: string, shown: string): Promise<HeldDirectory | undefined> {
  try {
    const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
    return await HeldDirectory.of(shown, await open(path, flags));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw refused(shown, error);
  }
}

function refused(shown: string, cause: unknown): RunnerError {
  const { code } = cause as NodeJS.ErrnoException;
  const isLink = code === 'ELOOP' || code === 'ENOTDIR';
  const why = isLink ? 'is a link, or not what a repository has there' : `cannot be used: ${messageOf(cause)}`;
  return new RunnerError('target_refused', `${shown} ${why}; nothing is written through it`, { cause });
}
