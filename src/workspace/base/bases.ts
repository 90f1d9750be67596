import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';

import { digestOf } from '../../digest.ts';
import { messageOf, RunnerError } from '../../errors.ts';
import { newId } from '../../ids.ts';
import { isProcessAlive, thisProcess, type ProcessIdentity } from '../../process-identity.ts';
import { howUnlike, perhapsIn, recognise, unlikeMax } from './alike.ts';
import { writeBase, type EarlierBase } from './base-writer.ts';
import type { BlobStore } from '../blobs.ts';
import type { ImportOptions } from './import.ts';
import { encodeTree } from '../manifest.ts';
import type { Scope } from '../scope/scope.ts';
import { hostPath, type Selection } from './select.ts';
import { Sources, type SourceRecord } from './sources.ts';
import { countsOf, keyOf, keyPattern, readMeta, StoredBase, type BaseMeta } from './stored-base.ts';

/**
 * Imported trees by content, shared between runs. Promises:
 *  - a base is there whole or not at all, its name is the digest of what it holds, and nobody writes to it again;
 *  - the same directory under the same scope is recognised without opening its files, as long as none has changed;
 *    the same files in another directory, by reading them: nothing is written twice;
 *  - a base that a run holds is never removed; of the others the longest unused go first, down to the caps;
 *  - after a reboot a base is imported again: what the machine had not written to its disk yet may be missing.
 *
 *     <key>/tree/            the files, owned as in the sandbox
 *     <key>/manifest.json    the same as a tree, <key>/meta.json its counts
 *     <key>/holders/<run>    who uses it, as a process
 *     sources/               which base a directory was when it was last imported
 */
export class BaseStore {
  readonly #directory: string;
  readonly #caps: BaseCaps;
  readonly #sources: Sources;
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

  /** The base of these files, held for that run: found, or imported. */
  async hold(
    runId: string,
    selection: Selection,
    scope: Scope,
    blobs: BlobStore,
    options: ImportOptions = {},
  ): Promise<HeldBase> {
    const unchanged = await this.#sources.findUnchanged(selection, scope);
    const known = unchanged === undefined ? undefined : await this.#take(unchanged, runId);
    if (known !== undefined) return { base: known, known: true };
    const last = await this.#sources.findLast(selection, scope);
    const before = last === undefined ? undefined : await this.#take(last.base, runId); // nobody removes it meanwhile
    const alike = before === undefined ? await this.#findAlike(selection, scope) : undefined;
    const same = alike && (await recognise(alike, selection, options));
    const recognised = alike && same && (await this.#take(alike.key, runId));
    if (recognised !== undefined) {
      await this.#sources.note(selection, scope, { base: recognised.key, identities: same ?? new Map() });
      return { base: recognised, known: true };
    }
    const earlier = before && last ? earlierBase(before, last) : alike && perhapsIn(alike);
    let held: StoredBase | undefined;
    try {
      const key = await this.#import(selection, scope, earlier, options);
      held = await this.#take(key, runId);
      if (held === undefined) throw new RunnerError('data_dir_unusable', `base ${key} vanished; try again`);
    } finally {
      if (before !== undefined && before.key !== held?.key) await this.release(before.key, runId);
    }
    await keepIgnoreFiles(held, blobs);
    await this.collect();
    return { base: held, known: false };
  }

  /** A base that is known by its key; undefined when it is not there (any more). */
  async holdByKey(runId: string, key: string): Promise<StoredBase | undefined> {
    return this.#take(key, runId);
  }

  /** May be called twice. */
  async release(key: string, runId: string): Promise<void> {
    await rm(this.#holder(key, runId), { force: true });
  }

  async find(key: string): Promise<StoredBase | undefined> {
    if (!keyPattern.test(key)) return undefined;
    const known = this.#recent.get(key);
    const meta = await readMeta(this.#directory, key); // of a base that is still there
    if (meta === undefined || meta.bootId !== thisProcess().bootId) return undefined;
    return this.#remember(known ?? new StoredBase(path.join(this.#directory, key), meta));
  }

  /** The longest unused first. */
  async list(): Promise<readonly BaseInfo[]> {
    const found: BaseInfo[] = [];
    for (const key of await readdir(this.#directory)) {
      if (!keyPattern.test(key)) continue;
      const file = path.join(this.#directory, key, 'meta.json');
      const used = await stat(file).catch(() => undefined);
      const meta = await readMeta(this.#directory, key);
      if (meta === undefined || used === undefined) continue;
      const { files, bytes, source } = meta;
      const holders = await holdersIn(path.join(this.#directory, key));
      found.push({
        key,
        files,
        bytes,
        source,
        usedMs: used.mtimeMs,
        holders,
        stale: meta.bootId !== thisProcess().bootId,
      });
    }
    return found.sort((a, b) => a.usedMs - b.usedMs);
  }

  /** False when a run holds it. Absent is fine. */
  async remove(key: string): Promise<boolean> {
    if (!keyPattern.test(key))
      throw new RunnerError('invalid_request', `${JSON.stringify(key)} is not the key of a base`);
    const directory = path.join(this.#directory, key);
    if ((await holdersIn(directory)).length > 0) return false;
    const grave = path.join(this.#directory, `.removing-${newId()}`);
    await rename(directory, grave).catch(ignoreMissing);
    // A run that got hold of it in between has seen it in its place, and gets it back there.
    const taken = (await holdersIn(grave)).length > 0;
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
    for (const { key } of await this.list()) {
      for (const name of await readdir(path.join(this.#directory, key, 'holders')).catch(() => [])) {
        const file = this.#holder(key, name);
        const holder = await readHolder(file);
        if (holder !== undefined && isProcessAlive(holder)) continue;
        if (!(await isNeeded(name))) await rm(file, { force: true });
      }
    }
  }

  /** The most similar one of another directory, by its counts. */
  async #findAlike(selection: Selection, scope: Scope): Promise<StoredBase | undefined> {
    let found: { readonly key: string; readonly unlike: number } | undefined;
    for (const key of await readdir(this.#directory)) {
      const meta = keyPattern.test(key) ? await readMeta(this.#directory, key) : undefined;
      if (meta?.scopeDigest !== scope.digest || meta.kind !== selection.kind) continue;
      const unlike = howUnlike(meta, selection);
      if (unlike <= (found?.unlike ?? unlikeMax)) found = { key, unlike };
    }
    return found === undefined ? undefined : this.find(found.key);
  }

  async #take(key: string, runId: string): Promise<StoredBase | undefined> {
    if (!keyPattern.test(key)) return undefined;
    const file = this.#holder(key, runId);
    try {
      const draft = path.join(this.#directory, key, `.holder-${newId()}`);
      await writeFile(draft, JSON.stringify(thisProcess()), { mode: 0o600 });
      await rename(draft, file);
    } catch (error) {
      return ignoreMissing(error as NodeJS.ErrnoException); // not there, or just removed
    }
    const base = await this.find(key);
    if (base === undefined) await rm(file, { force: true });
    else await utimes(path.join(this.#directory, key, 'meta.json'), new Date(), new Date());
    return base;
  }

  #holder(key: string, runId: string): string {
    return path.join(this.#directory, key, 'holders', runId);
  }

  async #import(
    selection: Selection,
    scope: Scope,
    earlier: EarlierBase | undefined,
    options: ImportOptions,
  ): Promise<string> {
    const partial = path.join(this.#directory, `.partial-${newId()}`);
    try {
      await mkdir(path.join(partial, 'holders'), { recursive: true, mode: 0o700 });
      const written = await writeBase(selection, scope, path.join(partial, 'tree'), earlier, options);
      const manifest = encodeTree(written.tree);
      const digest = digestOf(manifest);
      const key = keyOf({ digest, scopeDigest: scope.digest, kind: selection.kind });
      const { kind, root: source } = selection;
      const meta: BaseMeta = {
        format: 'glovebox.base/v1',
        digest,
        scopeDigest: scope.digest,
        kind,
        root: written.root,
        source,
        bootId: thisProcess().bootId,
        ...countsOf(written.tree, scope),
      };
      await writeFile(path.join(partial, 'manifest.json'), manifest, { mode: 0o600 });
      await writeFile(path.join(partial, 'meta.json'), JSON.stringify(meta), { mode: 0o600 });
      if ((await this.find(key)) === undefined) {
        await this.remove(key); // of an earlier boot
        await rename(partial, path.join(this.#directory, key)).catch(ignoreTaken);
        this.#remember(new StoredBase(path.join(this.#directory, key), meta, written.tree));
      }
      await this.#sources.note(selection, scope, { base: key, identities: written.identities });
      return key;
    } catch (cause) {
      if (cause instanceof RunnerError || options.signal?.aborted === true) throw cause;
      const message = `the import of ${selection.root} into ${this.#directory} failed: ${messageOf(cause)}; make room there`;
      throw new RunnerError('data_dir_unusable', message, { cause });
    } finally {
      await rm(partial, { recursive: true, force: true });
    }
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
}

const defaultCaps: BaseCaps = { count: 64, bytes: 32 * 1024 ** 3 };
const recentMax = 4;

const Holder = z.object({ pid: z.int(), startTicks: z.string(), bootId: z.string(), pidNamespace: z.string() });

async function readHolder(file: string): Promise<ProcessIdentity | undefined> {
  try {
    return Holder.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch {
    return undefined;
  }
}

/** Runs. Those of an earlier boot have nothing mounted any more. */
async function holdersIn(base: string): Promise<readonly string[]> {
  const holders = path.join(base, 'holders');
  const found: string[] = [];
  for (const run of await readdir(holders).catch(() => [])) {
    const holder = await readHolder(path.join(holders, run));
    if (holder === undefined || holder.bootId === thisProcess().bootId) found.push(run);
  }
  return found;
}

function earlierBase(base: StoredBase, { identities }: SourceRecord): EarlierBase {
  const { tree, directory } = base;
  return {
    whole: base,
    find(file) {
      if (file.kind !== 'file' || file.seen === undefined || identities.get(file.path) !== file.seen.identity) return;
      const node = tree.get(file.path);
      if (node?.kind !== 'file') return undefined;
      return { directory, node, identity: file.seen.identity };
    },
  };
}

/** What a diff asks for before it knows of any change. */
async function keepIgnoreFiles({ tree, directory }: StoredBase, blobs: BlobStore): Promise<void> {
  for (const [name, node] of tree) {
    if (node.kind !== 'file' || (name !== '.gitignore' && !name.endsWith('/.gitignore'))) continue;
    if (!(await blobs.has(node.digest))) await blobs.put(await readFile(hostPath(directory, name)));
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

/** Somebody else imported the same. */
function ignoreTaken(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
}
