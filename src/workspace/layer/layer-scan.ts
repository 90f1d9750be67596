import type { Digest } from '../../digest.ts';
import {
  FileError,
  type FileEntry,
  type FileErrorCode,
  type Files,
  type WalkItem,
  type WalkOptions,
} from '../../sandbox/spec.ts';
import type { Change, Node, Tree } from '../change-set.ts';
import { parentOf, sameNode } from '../diff.ts';
import type { Findings } from '../changes/findings.ts';
import type { WorkspaceLimits } from '../limits.ts';
import { nameProblem, plainPath, scannedOf, type ScannedEntry } from '../changes/scan.ts';
import type { BaseFiles } from '../base/base-files.ts';
import { wantedDirectories } from './upper.ts';

/** An overlay as this machine sees it from outside: the tree below, and the directory that took the writes. */
export interface Layering {
  /** Of the base, on this machine. */
  readonly lower: BaseFiles;
  /** Hostile, and only ever listed. */
  readonly upper: string;
}

/** What the content of a file that was written to is good for. */
export interface ContentUse {
  /** `keep`: it would be exported; `compare`: only whether it is another one; `nothing`: its size and mode will do. */
  of(path: string): 'keep' | 'compare' | 'nothing';
  /** Of the small ones to be kept: they come along with the listing. Returns the digest. */
  keep(path: string, bytes: Uint8Array): Promise<Digest>;
}

export interface LayerScan {
  /** What differs from the base, if the sandbox tells the truth. What was not seen counts as unchanged. */
  readonly changes: ReadonlyMap<string, Change>;
  /** What was looked at. */
  readonly entries: ReadonlyMap<string, ScannedEntry>;
  readonly unseen: ReadonlySet<string>;
}

/**
 * The changes of an overlay, at the cost of the changes. The upper directory says where to look, the sandbox's own
 * listing of just those places says what is there. Promises:
 *  - nothing of the upper directory is opened but directories, and no link in it is followed, even if it changes meanwhile;
 *  - a directory that is not the base's own one at that path (renamed, deleted and made again) is compared as a whole:
 *    it shows another inode number. Where numbers tell nothing, everything is compared as a whole;
 *  - a file the upper directory holds is changed if its content is, whatever its size and times say.
 */
export async function scanLayer(
  files: Files,
  base: Tree,
  layering: Layering,
  limits: WorkspaceLimits,
  findings: Findings,
  use: ContentUse,
): Promise<LayerScan> {
  const scan = new Scanner(files, base, layering, limits, findings, use);
  await scan.list();
  await scan.compareWhole();
  await scan.compareContents();
  return scan.result();
}

const askedAtOnce = 512;
const wholeBytesMax = 256 * 1024;

/** What a directory holds, or why it cannot be read; and the same of what it holds. */
type Listing = Map<string, FileEntry | FileErrorCode> | FileErrorCode;

class Scanner {
  readonly #files: Files;
  readonly #base: Tree;
  readonly #layering: Layering;
  readonly #limits: WorkspaceLimits;
  readonly #findings: Findings;
  readonly #use: ContentUse;
  readonly #changes = new Map<string, Change>();
  readonly #entries = new Map<string, ScannedEntry>();
  readonly #unseen = new Set<string>();
  readonly #deleted: string[] = [];
  /** Directories of which nothing below is known to be the base's. */
  readonly #strange: string[] = [];
  readonly #maybeChanged: string[] = [];
  #count = 0;
  whole = true;

  constructor(
    files: Files,
    base: Tree,
    layering: Layering,
    limits: WorkspaceLimits,
    findings: Findings,
    use: ContentUse,
  ) {
    this.#files = files;
    this.#base = base;
    this.#layering = layering;
    this.#limits = limits;
    this.#findings = findings;
    this.#use = use;
  }

  /**
   * Directories of the base that the upper directory has too, looked at from above: what lies below one that turns out
   * not to be the base's is left to `compareWhole`. They are listed at once; where one of them cannot be reached (it
   * lies below such a one, or below one that is closed), level by level.
   */
  async list(): Promise<void> {
    const written = this.#writtenPlaces();
    const atOnce = await this.#listings([...written.keys()]).catch((error: unknown) => {
      if (!(error instanceof FileError)) throw error;
    });
    for (let places = ['']; places.length > 0 && this.whole;) {
      const listings = atOnce ?? (await this.#listings(places));
      places = places.flatMap((place) => this.#lookIn(place, written.get(place) ?? new Set(), listings));
    }
  }

  async #listings(places: readonly string[]): Promise<ReadonlyMap<string, Listing>> {
    const listings = new Map<string, Listing>(places.map((place) => [place, new Map()]));
    let left = this.#limits.filesMax + 1;
    for (let at = 0; at < places.length && this.whole; at += askedAtOnce) {
      const roots = places.slice(at, at + askedAtOnce).map((place) => (place === '' ? '.' : place));
      for await (const item of this.#files.walk(roots, { shallow: true, entriesMax: left })) {
        if (item.kind === 'end') {
          if (item.truncated) this.#stop('', 'the sandbox stopped its listing');
          break;
        }
        left = Math.max(1, left - 1);
        const path = plainPath(item.kind === 'entry' ? item.entry.path : item.path);
        const listing = listings.get(parentOf(path));
        if (item.kind === 'unreadable' && listings.has(path)) listings.set(path, item.code);
        else if (listing instanceof Map) listing.set(path, item.kind === 'entry' ? item.entry : item.code);
      }
    }
    return listings;
  }

  /**
   * Where the base has a directory, and the upper directory one of that name: with what is in the upper one. A whiteout
   * is no entry of the sandbox, and so is not asked for.
   */
  #writtenPlaces(): ReadonlyMap<string, ReadonlySet<string>> {
    const isWanted = (path: string): boolean => !isGit(path) && this.#base.get(path)?.kind === 'directory';
    return wantedDirectories(this.#layering.upper, isWanted);
  }

  /** Returns the directories in it that are the base's, with changes somewhere below. */
  #lookIn(place: string, written: ReadonlySet<string>, listings: ReadonlyMap<string, Listing>): string[] {
    const listing = listings.get(place);
    if (typeof listing === 'string') this.#cannotSee(place, listing);
    if (!(listing instanceof Map)) return [];
    const next: string[] = [];
    for (const [path, entry] of listing) {
      if (typeof entry === 'string') this.#cannotSee(path, entry);
      else if (this.#accept(path) && this.#look(path, entry, written.has(path))) next.push(path);
      if (!this.whole) return [];
    }
    for (const path of this.#below(place)) {
      const code = listings.get(path);
      if (listing.has(path)) continue;
      if (typeof code === 'string') this.#cannotSee(path, code);
      else this.#deleted.push(path);
    }
    return next;
  }

  /** True when the directory at this path is the base's, with changes somewhere below. */
  #look(path: string, entry: FileEntry, written: boolean): boolean {
    const node = this.#take(path, entry);
    if (node === undefined) return false;
    const before = this.#base.get(path);
    if (before !== undefined && before.kind !== node.kind && before.kind === 'directory') this.#deleteBelow(path);
    if (node.kind === 'file') {
      if (before?.kind !== 'file' || written) this.#maybeChanged.push(path);
      return false;
    }
    if (before === undefined || !sameNode(before, node)) this.#changes.set(path, node);
    if (node.kind === 'symlink' || isGit(path)) return false;
    if (before?.kind === 'directory' && !written) return false;
    if (before?.kind === 'directory' && this.#isOfBase(path, entry)) return true;
    this.#strange.push(path);
    return false;
  }

  /** Renamed, made anew, or in the place of another: everything below is compared. */
  async compareWhole(): Promise<void> {
    if (this.#strange.length === 0 || !this.whole) return;
    const seen = new Set<string>();
    const depthMax = this.#limits.depthMax + 1;
    const walk = this.#files.walk(this.#strange, { prune: ['.git'], depthMax, entriesMax: this.#entriesLeft() + 1 });
    for await (const item of walk) {
      if (item.kind === 'end') {
        if (item.truncated) this.#stop('', 'the sandbox stopped its listing');
        break;
      }
      const path = plainPath(item.kind === 'entry' ? item.entry.path : item.path);
      seen.add(path);
      if (item.kind === 'unreadable') this.#cannotSee(path, item.code);
      else if (this.#accept(path)) {
        const node = this.#take(path, item.entry);
        const before = this.#base.get(path);
        if (node?.kind === 'file') this.#maybeChanged.push(path);
        else if (node !== undefined && (before === undefined || !sameNode(before, node))) this.#changes.set(path, node);
      }
      if (!this.whole) return;
    }
    for (const root of this.#strange) {
      if (this.#base.get(root)?.kind !== 'directory') continue;
      this.#eachBelow(root, (path) => {
        if (!seen.has(path)) this.#changes.set(path, { kind: 'deleted' });
      });
    }
  }

  /** Files that were written to. Asked for once more: the small ones with their contents, others with their digests. */
  async compareContents(): Promise<void> {
    const [whole, digests] = this.#worthReading();
    await this.#again(whole, { contents: true, fileBytesMax: wholeBytesMax });
    await this.#again(digests, { digests: true });
    for (const path of this.#maybeChanged) {
      const node = this.#entries.get(path)?.node;
      const before = this.#base.get(path);
      if (node !== undefined && (before === undefined || !sameNode(before, node))) this.#changes.set(path, node);
    }
  }

  async #again(worth: readonly string[], options: WalkOptions): Promise<void> {
    for (let at = 0; at < worth.length; at += askedAtOnce) {
      const paths = worth.slice(at, at + askedAtOnce);
      for await (const item of this.#files.walk(paths, { ...options, entriesMax: paths.length })) {
        if (item.kind === 'end') break;
        const path = plainPath(item.kind === 'entry' ? item.entry.path : item.path);
        if (item.kind === 'unreadable') this.#cannotSee(path, item.code);
        else if (this.#entries.has(path)) await this.#update(path, item);
      }
    }
  }

  async #update(path: string, { entry, content }: WalkItem & { kind: 'entry' }): Promise<void> {
    const scanned = scannedOf(entry);
    if (scanned === undefined) return;
    this.#entries.set(path, scanned);
    if (scanned.node.kind !== 'file' || content === undefined) return;
    const node = { ...scanned.node, digest: await this.#use.keep(path, content), sizeBytes: content.length };
    this.#entries.set(path, { ...scanned, node });
  }

  /** A sparse file of terabytes costs its maker nothing, and would be hashed for days. */
  #worthReading(): readonly [string[], string[]] {
    let bytesLeft = this.#limits.bytesMax;
    const [whole, digests]: [string[], string[]] = [[], []];
    for (const path of this.#maybeChanged) {
      const { sizeBytes } = this.#entries.get(path) ?? { sizeBytes: 0 };
      const use = this.#use.of(path);
      if (use === 'nothing' || sizeBytes > Math.min(bytesLeft, this.#limits.fileBytesMax)) continue;
      bytesLeft -= sizeBytes;
      (use === 'keep' && sizeBytes <= wholeBytesMax ? whole : digests).push(path);
    }
    return [whole, digests];
  }

  result(): LayerScan {
    for (const path of this.whole ? this.#deleted : []) {
      if (this.#unseen.has(path)) continue;
      this.#changes.set(path, { kind: 'deleted' });
      if (this.#base.get(path)?.kind === 'directory') this.#deleteBelow(path);
    }
    if (!this.whole) {
      for (const [path, change] of this.#changes) if (change.kind === 'deleted') this.#changes.delete(path);
    }
    return { changes: this.#changes, entries: this.#entries, unseen: this.#unseen };
  }

  #entriesLeft(): number {
    return this.#limits.filesMax - this.#count;
  }

  #accept(path: string): boolean {
    if (++this.#count > this.#limits.filesMax) this.#stop('', `more than ${this.#limits.filesMax} entries`);
    const problem = nameProblem(path, this.#limits) ?? (this.#entries.has(path) ? 'listed twice' : undefined);
    if (problem === undefined || !this.whole) return this.whole;
    this.#findings.add({ kind: 'bad_name', path: path.slice(0, 4096), effect: 'refused', detail: problem });
    if (problem.startsWith('too ')) this.#stop(path.slice(0, 4096), problem);
    return false;
  }

  #take(path: string, entry: FileEntry): Node | undefined {
    const scanned = scannedOf(entry);
    if (scanned !== undefined) this.#entries.set(path, scanned);
    else {
      this.#findings.add({ kind: 'special_file', path, effect: 'refused', detail: entry.type });
      this.#unseen.add(path);
    }
    return scanned?.node;
  }

  #cannotSee(path: string, code: string): void {
    this.#findings.add({ kind: 'unreadable', path, effect: 'incomplete', detail: code });
    this.#unseen.add(path);
  }

  #stop(path: string, detail: string): void {
    this.#findings.add({ kind: 'limit_exceeded', path, effect: 'incomplete', detail });
    this.whole = false;
  }

  /** The overlay shows a directory of the base under the number it has there, marked as not of the upper file system. */
  #isOfBase(path: string, entry: FileEntry): boolean {
    const below = this.#layering.lower.lookAt(path);
    return below?.isDirectory() === true && entry.inode > low && (entry.inode & low) === (below.ino & low);
  }

  #below(place: string): readonly string[] {
    return [...this.#layering.lower.namesIn(place)].filter((path) => this.#base.has(path));
  }

  #deleteBelow(root: string): void {
    this.#eachBelow(root, (path) => this.#changes.set(path, { kind: 'deleted' }));
  }

  /** What the base has below a directory and nobody hides. */
  #eachBelow(root: string, each: (path: string) => void): void {
    const pending = [root];
    for (let place = pending.pop(); place !== undefined; place = pending.pop()) {
      if (this.#unseen.has(place)) continue;
      for (const path of this.#below(place)) {
        if (this.#unseen.has(path)) continue;
        each(path);
        if (this.#base.get(path)?.kind === 'directory') pending.push(path);
      }
    }
  }
}

const low = 0xffff_ffffn;

function isGit(path: string): boolean {
  return path === '.git' || path.endsWith('/.git');
}
