import { digestOf, type Digest } from '../../digest.ts';
import { FileError, type Files } from '../../sandbox/spec.ts';
import { ToolError } from '../tool-result.ts';

export interface StagedFile {
  readonly bytes: Buffer;
  readonly mode: number;
}

interface Staged {
  /** As it was found; undefined = it was not there. */
  readonly before: StagedFile | undefined;
  after: StagedFile | undefined;
}

/**
 * The files that a patch touches, changed in memory first. `commit` writes them: each only if it still is what was read,
 * and if one cannot be written, those before it are put back.
 */
export class StagedFiles {
  readonly #files: Files;
  readonly #staged = new Map<string, Staged>();

  constructor(files: Files) {
    this.#files = files;
  }

  /** As it would be now; undefined = not there. */
  async read(path: string): Promise<StagedFile | undefined> {
    return (await this.#find(path)).after;
  }

  async set(path: string, file: StagedFile | undefined): Promise<void> {
    (await this.#find(path)).after = file;
  }

  async commit(): Promise<void> {
    const done: Undo[] = [];
    try {
      // Deletions last: until then a crash leaves too much rather than too little.
      const changed = [...this.#staged].filter(([, file]) => !same(file.before, file.after));
      for (const [path, { before, after }] of changed) {
        if (after !== undefined) await this.#write(path, before, after, done);
      }
      for (const [path, { before, after }] of changed) {
        if (before !== undefined && after === undefined) await this.#remove(path, before, done);
      }
    } catch (error) {
      await this.#rollBack(done, error);
      throw error;
    }
  }

  async #find(path: string): Promise<Staged> {
    const key = path.replace(/^(\.\/+)+/, '');
    const known = this.#staged.get(key);
    if (known !== undefined) return known;
    const before = await this.#load(key);
    const staged: Staged = { before, after: before };
    this.#staged.set(key, staged);
    return staged;
  }

  async #load(path: string): Promise<StagedFile | undefined> {
    try {
      const { entry, bytes } = await this.#files.read(path);
      return { bytes, mode: entry.mode & 0o777 };
    } catch (error) {
      if (error instanceof FileError && error.code === 'not_found') return undefined;
      throw error;
    }
  }

  async #write(path: string, before: StagedFile | undefined, after: StagedFile, done: Undo[]): Promise<void> {
    const mode = before?.mode === after.mode ? {} : { mode: after.mode };
    if (before === undefined) {
      const parents = await this.#missingParents(path);
      await this.#files.write(path, after.bytes, { ...mode, create: 'only', parents: true });
      done.push({ kind: 'created', path, parents });
    } else {
      await this.#files.write(path, after.bytes, { ...mode, create: 'never', ifMatch: digestOf(before.bytes) });
      done.push({ kind: 'written', path, before, now: digestOf(after.bytes) });
    }
  }

  async #remove(path: string, before: StagedFile, done: Undo[]): Promise<void> {
    const entry = await this.#files.stat(path, { digest: true });
    if (entry.digest !== digestOf(before.bytes)) {
      throw new FileError('conflict', path, `${path} was changed while the patch was applied`);
    }
    await this.#files.remove(path);
    done.push({ kind: 'removed', path, before });
  }

  /** Deepest first. */
  async #missingParents(path: string): Promise<string[]> {
    const missing: string[] = [];
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) {
      const parent = path.slice(0, at);
      try {
        await this.#files.stat(parent);
        break;
      } catch (error) {
        if (!(error instanceof FileError) || error.code !== 'not_found') throw error;
        missing.push(parent);
      }
    }
    return missing;
  }

  async #rollBack(done: readonly Undo[], cause: unknown): Promise<void> {
    const left: string[] = [];
    for (const undo of done.toReversed()) {
      try {
        await this.#undo(undo);
      } catch (error) {
        if (!(error instanceof FileError)) throw error;
        left.push(undo.path);
      }
    }
    if (left.length === 0) return;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new ToolError(
      'io',
      `the patch failed (${why}) and these files could not be put back, look at them: ${left.join(', ')}`,
      left[0],
    );
  }

  async #undo(undo: Undo): Promise<void> {
    switch (undo.kind) {
      case 'written':
        await this.#files.write(undo.path, undo.before.bytes, {
          mode: undo.before.mode,
          create: 'never',
          ifMatch: undo.now,
        });
        return;
      case 'removed':
        await this.#files.write(undo.path, undo.before.bytes, { mode: undo.before.mode, create: 'only' });
        return;
      case 'created':
        await this.#files.remove(undo.path);
        for (const parent of undo.parents) await this.#files.remove(parent);
    }
  }
}

type Undo =
  | { readonly kind: 'created'; readonly path: string; readonly parents: readonly string[] }
  | { readonly kind: 'written'; readonly path: string; readonly before: StagedFile; readonly now: Digest }
  | { readonly kind: 'removed'; readonly path: string; readonly before: StagedFile };

function same(a: StagedFile | undefined, b: StagedFile | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.mode === b.mode && a.bytes.equals(b.bytes);
}
