import { linkSync, renameSync, statfsSync } from 'node:fs';
import { readdir, writeFile } from 'node:fs/promises';
import type { DataDir, RunDir } from './data-dir/data-dir.ts';
import type { Digest } from './digest.ts';
import type { Engine, Labels, MountedVolume, Runtime } from './engine/engine.ts';
import { labelKeys } from './engine/labels.ts';
import { findResults, isAllScratch } from './environment/results.ts';
import { messageOf, RunnerError } from './errors.ts';
import { Inputs, type SharedInput } from './inputs/inputs.ts';
import type { InputSpec } from './inputs/open-input.ts';
import { OverlayTrial, type Trial } from './overlay-trial.ts';
import type { Files } from './sandbox/spec.ts';
import { BaseStore } from './workspace/base/bases.ts';
import type { BlobStore } from './workspace/blobs.ts';
import type { Layered } from './workspace/changes/collect.ts';
import { checkoutIn, type Checkout } from './workspace/base/git-listing.ts';
import {
  checkedOut,
  importWorkspace,
  type Base,
  type ImportOptions,
  type WorkspaceImport,
} from './workspace/base/import.ts';
import { Layer, type LayerBound } from './workspace/layer/layer.ts';
import { encodeTree } from './workspace/manifest.ts';
import type { Ownership } from './workspace/base/ownership.ts';
import { reopenBase } from './workspace/base/reopen.ts';
import type { Scope } from './workspace/scope/scope.ts';
import { nothing, type Selection, type SelectOptions } from './workspace/base/select.ts';
import { countsOf, keyOf, type StoredBase } from './workspace/base/stored-base.ts';

/**
 * How the files of a run come to be in its sandbox. `overlay`: a bounded layer of its own over a shared base, on disk.
 * `copy`: all of them, into memory. Both hold `limits.workspace`; both give the same change set.
 */
export interface Placement {
  readonly strategy: 'overlay' | 'copy';
  /** How `/workspace` itself is made. */
  readonly root: Ownership;
  readonly files: number;
  readonly sizeBytes: number;
  /** Where its base comes from. */
  readonly checkout: Checkout;
  /** Of which it is, unless another one is taken over. */
  readonly sandbox: string;
  /** Whether what the image's setup left in its workspace is in it already. */
  readonly hasResults: boolean;
  /** To be mounted beside it. */
  readonly inputs: readonly MountedVolume[];
  /**
   * Before the container is made. It may start once `laid` resolves, which goes on meanwhile; whatever becomes of the
   * container, `laid` must have settled before `discard`.
   */
  prepare(dir: RunDir, labels: Labels): Promise<{ readonly laid: Promise<void> }>;
  /** Made ahead for whoever comes: absent where there cannot be two of a kind. */
  readonly alike?: Alike;
  /** Instead of `prepare`: what another one of its kind has made. It comes to nothing by this, once `cleared` resolves. */
  takeOver(dir: RunDir, other: Placement, from: RunDir): Promise<{ readonly cleared: Promise<void> }>;
  /** As soon as it is open: that its inputs are what was looked at. */
  verify(): Promise<readonly SharedInput[]>;
  /** Once it is open; leaves the manifest in the run's directory. */
  fill(dir: RunDir, files: Files): Promise<Base>;
  counts(base: Base): ReturnType<typeof countsOf>;
  /** Where its changes are to be looked for. */
  looking(dir: RunDir): { readonly layered?: Layered };
  /** After the sandbox is gone. May be called twice. */
  discard(dir: RunDir): Promise<void>;
}

/** A kind of placement, and how one more of it comes about. */
export interface Alike {
  /** Of equal ones everything is equal that is there before a run has begun; JSON. */
  readonly kind: Readonly<Record<string, unknown>>;
  place(sandbox: string): Promise<Placement>;
}

type WorkspacePlacement = Omit<Placement, 'inputs' | 'verify' | 'checkout'>;

export interface PlacementRequest {
  /** Who holds the base; absent for a sandbox that waits for a run. */
  readonly runId?: string;
  /** Whose the volumes are. */
  readonly sandbox: string;
  readonly scope: Scope;
  readonly runtime: Runtime;
  readonly bound: LayerBound;
  /** Of the run; also for trying out what the engine can mount. */
  readonly image: Digest;
  /** Whether what the image's setup left may be in it; a snapshot with scratch has what became of that. */
  readonly withResults: boolean;
  readonly options: ImportOptions;
  readonly inputs: readonly InputSpec[];
  /** What the policy denies, in inputs as everywhere. */
  readonly deny: readonly string[];
}

/** Chooses overlays wherever they work: once for each boot and engine, by trying. */
export class Placements {
  readonly #engine: Engine;
  readonly #dataDir: DataDir;
  readonly #blobs: BlobStore;
  readonly #bases: BaseStore;
  readonly #trial: OverlayTrial;

  private constructor(engine: Engine, dataDir: DataDir, blobs: BlobStore, bases: BaseStore) {
    this.#engine = engine;
    this.#dataDir = dataDir;
    this.#blobs = blobs;
    this.#bases = bases;
    this.#trial = new OverlayTrial(engine, dataDir);
  }

  static async open(engine: Engine, dataDir: DataDir, blobs: BlobStore): Promise<Placements> {
    return new Placements(engine, dataDir, blobs, await BaseStore.open(dataDir.basesDir));
  }

  /** The files of a directory that a scope lets in; where they were imported before, at the cost of a look at each. */
  async select(root: string, scope: Scope, options: SelectOptions): Promise<Selection> {
    return this.#bases.select(root, scope, options);
  }

  /** The files of a directory, or a base that is known by its key. */
  async place(source: Selection | { readonly base: string }, request: PlacementRequest): Promise<Placement> {
    const workspace = 'root' in source && source.root !== '/' ? [source.root] : [];
    const checkout = 'root' in source ? source.checkout : {};
    return this.#withInputs(request, workspace, checkout, () => this.#place(source, request));
  }

  /** Once more what another run started from. A base that was collected meanwhile is made of its contents, if they are there. */
  async reopen(base: Base, request: PlacementRequest): Promise<Placement> {
    return this.#withInputs(request, [], checkoutIn(base), () => this.#reopen(base, request));
  }

  /** That of a run that goes on in its sandbox: nothing is made, and of a copy `tree` says what it began with. */
  async resume(
    base: Omit<Base, 'tree' | 'index'> & { readonly tree: () => Promise<Base['tree']> },
    strategy: Placement['strategy'],
    request: PlacementRequest,
  ): Promise<{ readonly placement: Placement; readonly base: Base }> {
    const { placement, found } = await this.#found(base, strategy, request);
    const { sandbox, inputs } = request;
    const ours = { [labelKeys.owner]: this.#dataDir.owner, [labelKeys.inputs]: sandbox };
    const discard = async (dir: RunDir): Promise<void> => {
      await placement.discard(dir);
      if (inputs.length > 0) await this.#engine.removeVolumes(ours, []);
    };
    // Its inputs are those that were compared when it was opened: nobody can mount others in a container that runs.
    const checkout = checkoutIn(base);
    const whole = { ...placement, checkout, inputs: [], verify: async () => [], discard };
    return { placement: whole, base: checkedOut(found, checkout) };
  }

  async #found(
    { tree, ...base }: Omit<Base, 'tree' | 'index'> & { readonly tree: () => Promise<Base['tree']> },
    strategy: Placement['strategy'],
    request: PlacementRequest,
  ): Promise<{ readonly placement: WorkspacePlacement; readonly found: Base }> {
    if (strategy === 'copy') {
      const found = { ...base, tree: await tree() };
      return { placement: this.#copy(reopenBase(found, request.scope, this.#blobs), request, false), found };
    }
    const held = await this.#bases.holdByKey(holderOf(request), keyOf(base));
    if (held !== undefined) return { placement: await this.#overlay(request, held), found: held };
    throw new RunnerError('sandbox_lost', `the base ${base.digest} that its workspace lies over is gone`);
  }

  async #withInputs(
    { sandbox, inputs: specs, deny }: PlacementRequest,
    workspace: readonly string[],
    checkout: Checkout,
    place: () => Promise<WorkspacePlacement>,
  ): Promise<Placement> {
    const { owner, path } = this.#dataDir;
    const inputs = await Inputs.open(this.#engine, specs, { sandbox, owner, deny, apart: [path, ...workspace] });
    try {
      const { alike, ...placement } = await place();
      return {
        ...placement,
        checkout,
        ...(alike === undefined || specs.length > 0 ? {} : { alike }),
        inputs: inputs.mounts,
        prepare: async (dir, labels) => {
          await inputs.prepare(labels);
          return placement.prepare(dir, labels);
        },
        fill: async (dir, files) => checkedOut(await placement.fill(dir, files), checkout),
        verify: () => inputs.verify(),
        discard: async (dir) => {
          await Promise.all([placement.discard(dir), inputs.discard()]);
        },
      };
    } catch (error) {
      await inputs.discard();
      throw error;
    }
  }

  async #place(source: Selection | { readonly base: string }, request: PlacementRequest): Promise<WorkspacePlacement> {
    const { scope, options } = request;
    const holder = holderOf(request);
    const trial = await this.#fits(request);
    if ('base' in source) {
      const base = trial.works ? await this.#bases.holdByKey(holder, source.base) : undefined;
      if (base?.scopeDigest === scope.digest) return await this.#overlay(request, base);
      const why = trial.works ? 'it is not there, or was made for another scope of files' : trial.detail;
      throw new RunnerError(
        'import_refused',
        `base ${source.base} cannot be opened: ${why}; name the directory instead`,
      );
    }
    if (!trial.works) return this.#copy(importWorkspace(source, scope, this.#blobs, options), request, isEmpty(source));
    try {
      const { base } = await this.#bases.hold(holder, source, scope, this.#blobs, options);
      return await this.#overlay(request, base);
    } catch (cause) {
      if (cause instanceof RunnerError || options.signal?.aborted === true) throw cause;
      const message = `the files cannot be kept in ${this.#dataDir.path}: ${messageOf(cause)}; make room there, then try again`;
      throw new RunnerError('data_dir_unusable', message, { cause });
    }
  }

  async #reopen(base: Base, request: PlacementRequest): Promise<WorkspacePlacement> {
    const { scope } = request;
    const trial = await this.#fits(request);
    const key = keyOf({ digest: base.digest, scopeDigest: scope.digest, kind: base.kind });
    const held = trial.works ? await this.#bases.holdByKey(holderOf(request), key) : undefined;
    if (held !== undefined) return await this.#overlay(request, held);
    return this.#copy(reopenBase(base, scope, this.#blobs), request, base.tree.size === 0);
  }

  async #fits({ runtime, image, bound }: PlacementRequest): Promise<Trial> {
    if (runtime !== 'runc') return { works: false, detail: 'gVisor gets a copy' };
    const { bavail, bsize } = statfsSync(this.#dataDir.path);
    if (bavail * bsize < bound.bytes) return { works: false, detail: `the disk of ${this.#dataDir.path} has no room` };
    return this.#trial.works(image);
  }

  #copy(imported: WorkspaceImport, request: PlacementRequest, empty: boolean): WorkspacePlacement {
    const { scope, runId } = request;
    const ahead = madeAhead(request);
    let { sandbox } = request;
    const place = (other: string): Promise<Placement> => this.place(nothing, { ...ahead, sandbox: other });
    return {
      strategy: 'copy',
      sandbox,
      ...(empty ? { alike: { kind: { strategy: 'copy', scope: scope.digest }, place } } : {}),
      hasResults: false,
      root: imported.root,
      files: imported.files,
      sizeBytes: imported.sizeBytes,
      prepare: async () => {
        if (runId !== undefined) await this.#dataDir.sandboxes.assign(sandbox, runId);
        return { laid: Promise.resolve() };
      },
      takeOver: async (dir, other) => {
        sandbox = other.sandbox;
        await this.#dataDir.sandboxes.assign(sandbox, dir.id);
        return { cleared: Promise.resolve() };
      },
      fill: async (dir, files) => {
        await files.unpack('.', imported.items, { owners: true });
        const base = imported.base();
        await writeFile(dir.base, encodeTree(base.tree));
        return base;
      },
      counts: (base) => countsOf(base.tree, scope),
      looking: () => ({}),
      discard: () => this.#dataDir.sandboxes.release(sandbox),
    };
  }

  async #overlay(request: PlacementRequest, base: StoredBase): Promise<WorkspacePlacement> {
    const { runId, scope, bound, image, withResults } = request;
    const ahead = madeAhead(request);
    let { sandbox } = request;
    const results = withResults ? findResults(this.#dataDir.path, image) : undefined;
    const middle = results !== undefined && (await fitsOver(base, results, scope)) ? { middle: results } : {};
    const ours = (): Labels => ({ [labelKeys.owner]: this.#dataDir.owner, [labelKeys.workspace]: sandbox });
    const kind = { strategy: 'overlay', base: base.key, ...bound, ...middle };
    const place = (other: string): Promise<Placement> => this.place({ base: base.key }, { ...ahead, sandbox: other });
    let lost: Promise<void> = Promise.resolve(); // once it throws, it always does
    return {
      strategy: 'overlay',
      sandbox,
      alike: { kind, place },
      hasResults: 'middle' in middle,
      root: base.meta.root,
      files: base.meta.files + base.meta.symlinks,
      sizeBytes: base.meta.bytes,
      prepare: async (dir, labels) => {
        if (runId !== undefined) await this.#dataDir.sandboxes.assign(sandbox, runId);
        // The engine looks for the directories when the container starts, and not before.
        const [upper, work] = [Layer.upperOf(dir.layer), Layer.workOf(dir.layer)];
        const layers = { lower: base.files.directories, ...middle, upper, work };
        await Layer.announce(dir.layer);
        const laid = Layer.make(dir.layer, bound, base.meta.root).then(() => undefined);
        await settled(laid, this.#engine.createOverlay(workspaceVolume(sandbox), layers, { ...labels, ...ours() }));
        return { laid };
      },
      takeOver: async (dir, other, from) => {
        sandbox = other.sandbox;
        await this.#dataDir.sandboxes.assign(sandbox, dir.id);
        renameSync(from.layer, dir.layer);
        return { cleared: this.#bases.release(base.key, sandbox) };
      },
      fill: async (dir) => {
        linkSync(base.manifest, dir.base);
        return base;
      },
      counts: () => base.meta,
      looking: (dir) => ({
        layered: {
          lower: base.files,
          upper: Layer.upperOf(dir.layer),
          scratch: base.meta.scratch,
          checkWritten: async () => {
            await lost;
            lost = Layer.checkWritten(dir.layer);
            await lost;
          },
        },
      }),
      discard: async (dir) => {
        await this.#engine.removeVolume(workspaceVolume(sandbox));
        await Layer.remove(dir.layer);
        await this.#bases.release(base.key, holderOf(request));
        await this.#dataDir.sandboxes.release(sandbox);
      },
    };
  }
}

/** What a sandbox's workspace is called at the engine. */
export function workspaceVolume(sandbox: string): string {
  return `glovebox-workspace-${sandbox}`;
}

function isEmpty({ files, directories }: Selection): boolean {
  return files.length === 0 && directories.length === 0;
}

function holderOf({ runId, sandbox }: PlacementRequest): string {
  return runId ?? sandbox;
}

/** Of whoever asked nothing stays but what it is to be like. */
function madeAhead(request: PlacementRequest): PlacementRequest {
  const { sandbox, scope, runtime, bound, image, withResults, inputs, deny } = request;
  return { sandbox, scope, runtime, bound, image, withResults, inputs, deny, options: {} };
}

/** If it fails, what goes on beside it has ended too: what they made can be removed. */
async function settled(beside: Promise<unknown>, awaited: Promise<void>): Promise<void> {
  beside.catch(() => undefined); // whoever waits for it hears of it
  try {
    await awaited;
  } catch (error) {
    await beside.catch(() => undefined);
    throw error;
  }
}

/** All of it scratch, and nothing of it in the base: then it hides nothing, and nothing of it is ever a change. */
async function fitsOver(base: StoredBase, results: string, scope: Scope): Promise<boolean> {
  const names = await readdir(results);
  if (names.some((name) => base.files.shows(name))) return false;
  return names.length > 0 && (await isAllScratch(results, scope));
}
