import { utimesSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';

import type { Digest } from '../../digest.ts';
import { messageOf, RunnerError } from '../../errors.ts';
import { failpoint } from '../../failpoint.ts';
import { newId } from '../../ids.ts';
import { thisProcess } from '../../process-identity.ts';
import { howUnlike, perhapsIn, recognise, unlikeMax } from './alike.ts';
import { believed, importDelta, importWhole, stillBelieved, type Imported } from './base-import.ts';
import type { EarlierBase } from './base-writer.ts';
import type { BlobStore } from '../blobs.ts';
import { addHolder, holdersIn, removeDeadHolders, removeHolder } from './holders.ts';
import { hostPath } from './host-path.ts';
import type { ImportOptions } from './import.ts';
import { differenceOf, isNothing, type NotedLook } from './look.ts';
import type { Scope } from '../scope/scope.ts';
import { selectFiles, type Selection, type SelectOptions } from './select.ts';
import { Sources } from './sources.ts';
import { keyOf, keyPattern, readMeta, StoredBase, type BaseMeta } from './stored-base.ts';
import type { TreeText } from './tree-text.ts';

/**
 * Imported trees by content, shared between runs. Promises:
 *  - a base is there whole or not at all, its name is the digest of what it holds, and nobody writes to it again;
 *  - the same directory under the same scope is recognised without opening its files, as long as none has changed;
 *    the same files in another directory, by reading them: nothing is written twice;
 *  - an import of a directory that was imported before costs a look at each file, and what has changed: the base is then a
 *    delta over a whole one, and their directories together, one over the other, are what it holds;
 *  - a base that a run holds, or that another one is laid over, is never removed; of the others the longest unused go first,
 *    down to the caps;
 *  - after a reboot a base is imported again: what the machine had not written to its disk yet may be missing.
 *
 *     <key>/tree/            the files, owned as in the sandbox; of a delta those that are not as in the base below
 *     <key>/manifest.json    the same as a tree, <key>/meta.json its counts
 *     <key>/holders/<run>    who uses it, as a process
 *     sources/               which base a directory was when it was last imported, and what it looked like
 */
export class BaseStore {
  readonly #directory: string;
  readonly #caps: BaseCaps;
  readonly #sources: Sources;
  readonly #self = thisProcess();
  /** With their trees, once somebody has asked for them. */
  readonly #recent = new Map<string, StoredBase>();

  private constructor(directory: string, caps: BaseCaps) {
    this.#directory = directory;
    this.#caps = caps;
    this.#sources = new Sources(path.join(directory, 'sources'));
  }

  static async open(directory: string, caps: BaseCaps = defaultCaps): Promise<BaseStore> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return new BaseStore(directory, caps);
  }

  /** The files of a directory as `selectFiles` gives them, at the cost of a look at each where they were imported before. */
  async select(root: string, scope: Scope, options: SelectOptions = {}): Promise<Selection> {
    return selectFiles(root, scope, { ...options, last: (directory) => this.#sources.find(directory, scope) });
  }

  /** The base of these files, held for that run: found, or imported. */
  async hold(
    runId: string,
    selection: Selection,
    scope: Scope,
    blobs: BlobStore,
    options: ImportOptions = {},
  ): Promise<HeldBase> {
    const asked = { runId, selection, scope, blobs, options };
    const last = selection.last ?? (await this.#sources.find(selection.root, scope));
    const before = last && (await this.#take(last.base, runId)); // nobody removes it meanwhile
    if (last === undefined || before === undefined) return this.#holdAnew(asked, last);
    let held: StoredBase | undefined;
    try {
      held = await this.#holdAfter(asked, before, last);
      return { base: held, known: held.key === before.key };
    } finally {
      if (before.key !== held?.key) await this.release(before.key, runId);
    }
  }

  /** A base that is known by its key; undefined when it is not there (any more). */
  async holdByKey(runId: string, key: string): Promise<StoredBase | undefined> {
    return this.#take(key, runId);
  }

  /** May be called twice. */
  async release(key: string, runId: string): Promise<void> {
    await removeHolder(path.join(this.#directory, key), runId);
  }

  async find(key: string): Promise<StoredBase | undefined> {
    if (!keyPattern.test(key)) return undefined;
    const known = this.#recent.get(key);
    const meta = readMeta(this.#directory, key); // of a base that is still there
    if (meta === undefined || meta.bootId !== this.#self.bootId) return undefined;
    const below = meta.delta && readMeta(this.#directory, meta.delta.over);
    if (meta.delta !== undefined && below?.bootId !== meta.bootId) return undefined;
    return this.#remember(known ?? new StoredBase(path.join(this.#directory, key), meta));
  }

  /** The longest unused first. */
  async list(): Promise<readonly BaseInfo[]> {
    const found: BaseInfo[] = [];
    for (const key of await readdir(this.#directory)) {
      if (!keyPattern.test(key)) continue;
      const file = path.join(this.#directory, key, 'meta.json');
      const used = await stat(file).catch(() => undefined);
      const meta = readMeta(this.#directory, key);
      if (meta === undefined || used === undefined) continue;
      const { files, bytes, source, delta } = meta;
      const holders = await holdersIn(path.join(this.#directory, key));
      found.push({
        key,
        files,
        bytes,
        source,
        usedMs: used.mtimeMs,
        holders,
        stale: meta.bootId !== this.#self.bootId,
        ...(delta === undefined ? {} : { over: delta.over }),
      });
    }
    return found.sort((a, b) => a.usedMs - b.usedMs);
  }

  /** False when a run holds it, or a base lies over it. Absent is fine. */
  async remove(key: string): Promise<boolean> {
    if (!keyPattern.test(key))
      throw new RunnerError('invalid_request', `${JSON.stringify(key)} is not the key of a base`);
    const directory = path.join(this.#directory, key);
    if (await this.#isNeeded(key, directory)) return false;
    const grave = path.join(this.#directory, `.removing-${newId()}`);
    await rename(directory, grave).catch(ignoreMissing);
    // Who got hold of it in between, or laid a base over it, has seen it in its place, and gets it back there.
    const taken = await this.#isNeeded(key, grave);
    if (taken) await rename(grave, directory).catch(ignoreTaken);
    else this.#recent.delete(key);
    await rm(grave, { recursive: true, force: true });
    return !taken;
  }

  /** Down to the caps; returns the keys that went. Holds of runners that died are given up by `forget`. */
  async collect(wanted: { readonly [Cap in keyof BaseCaps]?: number | undefined } = {}): Promise<readonly string[]> {
    const caps = { count: wanted.count ?? this.#caps.count, bytes: wanted.bytes ?? this.#caps.bytes };
    const bases = await this.list();
    let count = bases.length;
    let bytes = bases.reduce((sum, base) => sum + base.bytes, 0);
    const removed: string[] = [];
    for (const base of bases) {
      if (!base.stale && count <= caps.count && bytes <= caps.bytes) continue;
      if (!(await this.remove(base.key))) continue;
      removed.push(base.key);
      count--;
      bytes -= base.bytes;
    }
    return removed;
  }

  /** Gives up the holds whose process is dead and whose run needs nothing any more. */
  async releaseDead(isNeeded: (runId: string) => Promise<boolean>): Promise<void> {
    for (const { key } of await this.list()) await removeDeadHolders(path.join(this.#directory, key), isNeeded);
  }

  /** Where no earlier import helps. */
  async #holdAnew(asked: Asked, last: NotedLook | undefined): Promise<HeldBase> {
    const { runId, selection, scope, options } = asked;
    const alike = await this.#findAlike(selection, scope);
    const same = alike && (await recognise(alike, selection, options));
    const recognised = alike && same && (await this.#take(alike.key, runId));
    if (recognised !== undefined && same !== undefined) {
      await this.#sources.note(selection.look, believed(selection.look, same), scope, recognised.key, last);
      return { base: recognised, known: true };
    }
    return { base: await this.#importWhole(asked, last, alike && perhapsIn(alike)), known: false };
  }

  /** The base of a directory that was another one before, which this run holds. */
  async #holdAfter(asked: Asked, before: StoredBase, last: NotedLook): Promise<StoredBase> {
    const { selection, scope, options } = asked;
    if (before.kind === selection.kind) {
      const difference = differenceOf(last, selection.look);
      if (isNothing(difference)) {
        // Other names than before, of which nothing is brought in: the next look is to find them as they are now.
        const { look } = selection;
        if (selection.last !== undefined && look.names !== last.names)
          await this.#sources.note(look, stillBelieved(look), scope, before.key, last);
        return before;
      }
      const held = await this.#import(asked, last, (into) =>
        importDelta(before, difference, selection, scope, into, options),
      );
      if (held !== undefined) return held;
    }
    return this.#importWhole(asked, last, earlierBase(before, last));
  }

  async #importWhole(asked: Asked, last: NotedLook | undefined, earlier: EarlierBase | undefined): Promise<StoredBase> {
    const { selection, scope, options } = asked;
    const held = await this.#import(asked, last, (into) => importWhole(selection, scope, into, earlier, options));
    if (held !== undefined) return held;
    throw new RunnerError('internal', `the import of ${selection.root} gave nothing; try again`);
  }

  /** The most similar one of another directory, by its counts. */
  async #findAlike(selection: Selection, scope: Scope): Promise<StoredBase | undefined> {
    let found: { readonly key: string; readonly unlike: number } | undefined;
    for (const key of await readdir(this.#directory)) {
      const meta = keyPattern.test(key) ? readMeta(this.#directory, key) : undefined;
      if (meta?.scopeDigest !== scope.digest || meta.kind !== selection.kind) continue;
      const unlike = howUnlike(meta, selection);
      if (unlike <= (found?.unlike ?? unlikeMax)) found = { key, unlike };
    }
    return found === undefined ? undefined : this.find(found.key);
  }

  async #take(key: string, runId: string): Promise<StoredBase | undefined> {
    if (!keyPattern.test(key)) return undefined;
    const directory = path.join(this.#directory, key);
    try {
      addHolder(directory, runId, this.#self);
    } catch (error) {
      return ignoreMissing(error as NodeJS.ErrnoException); // not there, or just removed
    }
    const base = await this.find(key);
    if (base === undefined) await removeHolder(directory, runId);
    else {
      const used = Date.now();
      touch(directory, used);
      // Used as long as what lies over it, and a moment longer: it can only be removed after that.
      if (base.meta.delta !== undefined) touch(path.join(this.#directory, base.meta.delta.over), used + 1);
    }
    return base;
  }

  async #isNeeded(key: string, directory: string): Promise<boolean> {
    if ((await holdersIn(directory)).length > 0) return true;
    for (const name of await readdir(this.#directory)) {
      const meta = keyPattern.test(name) ? readMeta(this.#directory, name) : undefined;
      if (meta?.delta?.over === key && meta.bootId === this.#self.bootId) return true;
    }
    return false;
  }

  /** Holds what was written; undefined where nothing was. */
  async #import(
    { runId, selection, scope, blobs, options }: Asked,
    last: NotedLook | undefined,
    write: (into: string) => Promise<Imported | undefined>,
  ): Promise<StoredBase | undefined> {
    const partial = path.join(this.#directory, `.partial-${newId()}`);
    let key: string;
    let ignoreFiles: ReturnType<typeof ignoreFilesIn>;
    try {
      await mkdir(path.join(partial, 'holders'), { recursive: true, mode: 0o700 });
      const imported = await write(partial);
      if (imported === undefined) return undefined;
      await failpoint('import.written');
      key = await this.#publish(partial, imported, selection, scope);
      await failpoint('import.published');
      await this.#sources.note(selection.look, imported.rows, scope, key, last);
      await failpoint('import.noted');
      ignoreFiles = ignoreFilesIn(imported.text);
    } catch (cause) {
      if (cause instanceof RunnerError || options.signal?.aborted === true) throw cause;
      const message = `the import of ${selection.root} into ${this.#directory} failed: ${messageOf(cause)}; make room there`;
      throw new RunnerError('data_dir_unusable', message, { cause });
    } finally {
      await rm(partial, { recursive: true, force: true });
    }
    const held = await this.#take(key, runId);
    if (held === undefined) throw new RunnerError('data_dir_unusable', `base ${key} vanished; try again`);
    await keepIgnoreFiles(held, ignoreFiles, blobs);
    await this.collect();
    return held;
  }

  /** Under its name, unless it is there already. */
  async #publish(partial: string, imported: Imported, selection: Selection, scope: Scope): Promise<string> {
    const { text, digest, root, counts, delta, tree } = imported;
    const { kind, root: source } = selection;
    const key = keyOf({ digest, scopeDigest: scope.digest, kind });
    if ((await this.find(key)) !== undefined) return key;
    const { bootId } = this.#self;
    const about = { digest, scopeDigest: scope.digest, kind, root, source, bootId, ...counts };
    const meta: BaseMeta = { format: 'glovebox.base/v1', ...about, ...(delta === undefined ? {} : { delta }) };
    await writeFile(path.join(partial, 'manifest.json'), text.bytes, { mode: 0o600 });
    await writeFile(path.join(partial, 'meta.json'), JSON.stringify(meta), { mode: 0o600 });
    await this.remove(key); // of an earlier boot
    await rename(partial, path.join(this.#directory, key)).catch(ignoreTaken);
    this.#remember(new StoredBase(path.join(this.#directory, key), meta, tree));
    return key;
  }

  #remember(base: StoredBase): StoredBase {
    this.#recent.delete(base.key);
    this.#recent.set(base.key, base);
    for (const oldest of this.#recent.keys()) if (this.#recent.size > recentMax) this.#recent.delete(oldest);
    return base;
  }
}

export interface BaseCaps {
  readonly count: number;
  /** Of the files' sizes; what two bases share counts twice. */
  readonly bytes: number;
}

export interface HeldBase {
  readonly base: StoredBase;
  /** False when it had to be imported. */
  readonly known: boolean;
}

export interface BaseInfo {
  readonly key: string;
  readonly files: number;
  readonly bytes: number;
  readonly source: string;
  readonly usedMs: number;
  /** Runs. */
  readonly holders: readonly string[];
  /** Of an earlier boot: never used again. */
  readonly stale: boolean;
  /** The key of the base it is laid over. */
  readonly over?: string;
}

const defaultCaps: BaseCaps = { count: 64, bytes: 32 * 1024 ** 3 };
const recentMax = 4;

/** What one import is about. */
interface Asked {
  readonly runId: string;
  readonly selection: Selection;
  readonly scope: Scope;
  readonly blobs: BlobStore;
  readonly options: ImportOptions;
}

function earlierBase(base: StoredBase, last: NotedLook): EarlierBase {
  const places = new Map(last.names.map((name, at) => [name, at]));
  return {
    ...(base.meta.delta === undefined ? { whole: base } : {}),
    find(file) {
      if (file.kind !== 'file' || file.seen === undefined) return undefined;
      const { identity } = file.seen;
      const place = places.get(file.path);
      const node = base.tree.get(file.path);
      if (place === undefined || node?.kind !== 'file' || last.rows.seen(place).identity !== identity) return undefined;
      return { directory: base.files.directoryOf(file.path), node, identity };
    },
  };
}

function ignoreFilesIn(text: TreeText): ReadonlyMap<string, Digest> {
  return new Map(
    text.pathsOf('.gitignore').flatMap((name) => {
      const node = text.find(name);
      return node?.kind === 'file' ? [[name, node.digest]] : [];
    }),
  );
}

/** What a diff asks for before it knows of any change. */
async function keepIgnoreFiles(
  { files }: StoredBase,
  found: ReadonlyMap<string, Digest>,
  blobs: BlobStore,
): Promise<void> {
  for (const [name, digest] of found)
    if (!(await blobs.has(digest))) await blobs.put(await readFile(hostPath(files.directoryOf(name), name)));
}

function touch(base: string, usedMs: number): void {
  try {
    utimesSync(path.join(base, 'meta.json'), new Date(usedMs), new Date(usedMs));
  } catch (error) {
    ignoreMissing(error as NodeJS.ErrnoException);
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

/** Somebody else imported the same. */
function ignoreTaken(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
}
