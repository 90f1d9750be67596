import type { Digest } from '../digest.ts';
import { FileError, type FileEntry, type Files } from '../sandbox/spec.ts';

/** Where it is looked at files: a sandbox, or this machine. What is not there, or not readable, is undefined; links are followed where it says so. */
export interface Place {
  /** Links are followed. Undefined too for what is larger. */
  read(path: string, bytesMax: number): Promise<string | undefined>;
  /** What is below a directory, links not followed; what is there of it where there is more than `entriesMax`. */
  list(root: string, options: ListOptions): Promise<readonly Listed[]>;
  /** Of one file. Links are followed. */
  digest(path: string): Promise<Digest | undefined>;
}

export interface ListOptions {
  readonly entriesMax: number;
  /** 1: what is in the directory itself. Default: all. */
  readonly depthMax?: number;
  readonly digests?: boolean;
}

/** `digest`: of a file, where it was asked for and could be read. */
export type Listed = Pick<FileEntry, 'path' | 'type' | 'mode' | 'uid' | 'gid'> &
  Partial<Pick<FileEntry, 'target' | 'digest'>>;

/** By file verbs: no program of the image is needed. */
export function placeOf(files: Pick<Files, 'read' | 'walk' | 'stat'>): Place {
  return {
    async read(path, bytesMax) {
      const found = await unlessMissing(files.read(path, { maxBytes: bytesMax }));
      return found?.bytes.toString('utf8');
    },
    async list(root, { entriesMax, depthMax, digests = false }) {
      const entries: Listed[] = [];
      const walk = files.walk([root], { entriesMax, digests, ...(depthMax === undefined ? {} : { depthMax }) });
      const walked = async (): Promise<void> => {
        for await (const item of walk) if (item.kind === 'entry') entries.push(item.entry);
      };
      await unlessMissing(walked());
      return entries;
    },
    async digest(path) {
      return (await unlessMissing(files.stat(path, { follow: true, digest: true })))?.digest;
    },
  };
}

/** That there is nothing to see is an answer; that a verb was cut short, or took too long, is none: somebody inside may be why. */
async function unlessMissing<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    if (error instanceof FileError && error.code !== 'io') return undefined;
    throw error;
  }
}

/** One line for all that counts of an entry. */
export function lineOf({ type, mode, uid, gid, target, digest }: Listed): string {
  const what = type === 'symlink' ? `-> ${target ?? ''}` : type === 'file' ? (digest ?? 'unreadable') : type;
  return type === 'symlink' ? what : `${what} ${mode.toString(8).padStart(4, '0')} ${uid}:${gid}`;
}
