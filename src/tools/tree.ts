import { FileError, type FileEntry, type Files } from '../sandbox/spec.ts';

/** Directories that nobody means when they search a project. */
export const prunedNames: readonly string[] = ['.git', 'node_modules'];

/** Most entries that one call looks at, and the longest time the event loop is kept from others. */
export const treeEntriesMax = 200_000;
const sliceMs = 10;
/** Longest time for one search. */
export const searchMaxMs = 30_000;

/** Path below `root`, as patterns see it. The paths of a walk are `root` joined with what is below it. */
export function relativeTo(root: string, path: string): string {
  const clean = (text: string): string => text.replace(/^(\.\/+)+/, '').replace(/\/+$/, '');
  const base = clean(root);
  const full = clean(path);
  if (base === '' || base === '.') return full;
  if (full === base) return '';
  return full.startsWith(`${base}/`) ? full.slice(base.length + 1) : full;
}

/** As people write it: `./a` is `a`. */
export function shownPath(path: string): string {
  return path.replace(/^(\.\/+)+(?=[^/])/, '');
}

/** Lets others run between pieces of work: `await pause.maybe()` in every round of a long loop. */
export class Pause {
  #since = performance.now();

  async maybe(): Promise<void> {
    if (performance.now() - this.#since < sliceMs) return;
    await new Promise<void>((resolve) => {
      setImmediate(resolve);
    });
    this.#since = performance.now();
  }
}

/** The entry of a root that must be a directory. */
export async function statDirectory(files: Files, path: string): Promise<FileEntry> {
  const entry = await files.stat(path);
  if (entry.type !== 'directory') throw new FileError('not_directory', path, `${path} is a ${entry.type}`);
  return entry;
}
