import type { FileMark } from '../journal/entry.ts';
import { digestOf, type Digest } from '../digest.ts';
import { workspace } from '../sandbox/environment.ts';
import type { FileEntry, Files, UnpackItem, WalkItem, WalkOptions, WriteOptions } from '../sandbox/spec.ts';

/** Where it is told what a call writes. */
export interface WriteRecord {
  /** Of a path of the workspace, before it is written to; what it returns says that this is over. */
  writing(path: string): () => void;
  wrote(mark: FileMark): void;
  /** What is written until then is not told one by one: it has to be looked at. */
  unpacking(until: Promise<unknown>): void;
  keep(digest: Digest, bytes: Uint8Array): void;
}

/** The files of a sandbox for one call: what the call writes is told, by path and content. What it reads costs nothing more. */
export class RecordedFiles implements Files {
  readonly #files: Files;
  readonly #record: WriteRecord;

  constructor(files: Files, record: WriteRecord) {
    this.#files = files;
    this.#record = record;
  }

  stat(path: string, options?: { follow?: boolean; digest?: boolean }): Promise<FileEntry> {
    return this.#files.stat(path, options);
  }

  read(path: string, options?: { offset?: number; lengthBytes?: number; maxBytes?: number }) {
    return this.#files.read(path, options);
  }

  walk(paths: readonly string[], options?: WalkOptions): AsyncIterable<WalkItem> {
    return this.#files.walk(paths, options);
  }

  mkdir(path: string, options?: { mode?: number; parents?: boolean }): Promise<void> {
    return this.#files.mkdir(path, options);
  }

  async write(path: string, bytes: Uint8Array, options?: WriteOptions): Promise<FileEntry> {
    const place = workspacePath(path);
    if (place === undefined) return this.#files.write(path, bytes, options);
    return this.#during([place], async () => {
      const entry = await this.#files.write(path, bytes, options);
      const digest = entry.digest ?? digestOf(bytes);
      this.#record.wrote({ kind: 'content', path: place, digest });
      this.#record.keep(digest, bytes);
      return entry;
    });
  }

  async move(from: string, to: string, options?: { replace?: boolean }): Promise<void> {
    const [place, source] = [workspacePath(to), workspacePath(from)];
    await this.#during([place, source], async () => {
      await this.#files.move(from, to, options);
      if (source === undefined) this.#record.unpacking(Promise.resolve()); // it came from elsewhere
      else if (place === undefined) this.#record.wrote({ kind: 'gone', path: source });
      else this.#record.wrote({ kind: 'moved', path: place, from: source });
    });
  }

  async remove(path: string, options?: { recursive?: boolean }): Promise<void> {
    const place = workspacePath(path);
    await this.#during([place], async () => {
      await this.#files.remove(path, options);
      if (place !== undefined) this.#record.wrote({ kind: 'gone', path: place });
    });
  }

  async unpack(
    root: string,
    items: Iterable<UnpackItem> | AsyncIterable<UnpackItem>,
    options?: { owners?: boolean },
  ): Promise<void> {
    const unpacked = this.#files.unpack(root, items, options);
    this.#record.unpacking(unpacked.catch(() => undefined));
    await unpacked;
  }

  async #during<T>(paths: readonly (string | undefined)[], work: () => Promise<T>): Promise<T> {
    const over = paths.flatMap((path) => (path === undefined ? [] : [this.#record.writing(path)]));
    try {
      return await work();
    } finally {
      for (const end of over) end();
    }
  }
}

/** Relative to the workspace, as far as the name alone says; undefined for what lies elsewhere, and for the workspace itself. */
export function workspacePath(path: string): string | undefined {
  const whole = path.startsWith('/') ? path : `${workspace}/${path}`;
  const names: string[] = [];
  for (const name of whole.split('/')) {
    if (name === '..') names.pop();
    else if (name !== '' && name !== '.') names.push(name);
  }
  return names[0] === workspace.slice(1) && names.length > 1 ? names.slice(1).join('/') : undefined;
}
