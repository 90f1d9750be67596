import type { Digest } from '../digest.ts';
import type { Entry, EntryData, FileMark } from '../journal/entry.ts';
import { DatedMap } from './dated-map.ts';

/** Who gave a file the content that it had. */
export type Author =
  | { readonly kind: 'base' }
  | { readonly kind: 'call'; readonly run: string; readonly callId: string; readonly late: boolean }
  /** One or some of these, and nobody looked in between. */
  | {
      readonly kind: 'between';
      readonly run: string;
      readonly from: string;
      readonly to: string;
      readonly calls: number;
    }
  /** Written while no call ran. */
  | { readonly kind: 'nobody'; readonly run: string }
  /** It came with a snapshot of that run, of which there are no records any more. */
  | { readonly kind: 'run'; readonly run: string };

/** A content that a file had. */
export interface Version {
  /** Undefined where nobody knows what it holds. */
  readonly digest: Digest | undefined;
  readonly author: Author;
  /** What the file held before, under whatever name. */
  readonly before: Version | undefined;
}

/** Which files there were at a moment, and how they came to be what they were. */
export interface FileStates {
  /** Undefined: there was no such file. */
  at(path: string): Version | undefined;
  paths(): Iterable<string>;
  /** A version that had this content, in whatever file. */
  find(digest: Digest): Known | undefined;
}

interface Known {
  readonly version: Version;
  /** After how many looks at all files it was written. */
  readonly step: number;
}

/** The files that a run began with, by path. */
export function baseStates(digests: ReadonlyMap<string, Digest>): FileStates {
  const known = new Map<string, Version>();
  let pathOf: Map<Digest, string> | undefined;
  const at = (path: string): Version | undefined => {
    const digest = digests.get(path);
    if (digest === undefined) return undefined;
    const version = known.get(path) ?? { digest, author: { kind: 'base' }, before: undefined };
    known.set(path, version);
    return version;
  };
  return {
    at,
    paths: () => digests.keys(),
    find: (digest) => {
      pathOf ??= new Map([...digests].map(([path, of]) => [of, path]));
      const version = at(pathOf.get(digest) ?? '');
      return version === undefined ? undefined : { version, step: -1 };
    },
  };
}

/**
 * The versions of every file of a run, from what its journal says. Pure. A rename keeps what came before; a file that turns up with
 * a content which another one had is that one, copied or moved. `snapshots` has what other runs' snapshots hold.
 */
export class FileHistory implements FileStates {
  readonly #run: string;
  readonly #snapshots: (run: string, digest: Digest) => FileStates;
  /** What lies below `#now`: the base, or a snapshot that was laid over it. */
  #below: FileStates;
  #now = new DatedMap<Version | 'gone'>();
  readonly #byDigest = new DatedMap<Known>();
  readonly #taken = new Map<string, FileStates>();
  /** A step for each look at all files: what was written since is what may turn up at another place. */
  #step = 0;

  constructor(run: string, base: FileStates, snapshots: (run: string, digest: Digest) => FileStates) {
    this.#run = run;
    this.#below = base;
    this.#snapshots = snapshots;
  }

  push(entry: Entry): void {
    switch (entry.type) {
      case 'call.ended': {
        const author: Author = { kind: 'call', run: this.#run, callId: entry.data.callId, late: false };
        for (const mark of entry.data.files ?? []) this.#mark(mark, author, true);
        return;
      }
      case 'files.seen':
        return this.#seen(entry.data);
      case 'snapshot.taken':
      case 'workspace.collected':
        this.#taken.set(entry.data.digest, this.#frozen());
        return;
      case 'snapshot.applied': {
        const { run, digest } = entry.data;
        const own = run === this.#run ? this.#taken.get(digest) : undefined;
        this.#below = own ?? this.#snapshots(run, digest);
        this.#now = new DatedMap();
        return;
      }
      default:
    }
  }

  at(path: string): Version | undefined {
    const now = this.#now.get(path);
    return now === 'gone' ? undefined : (now ?? this.#below.at(path));
  }

  *paths(): Iterable<string> {
    for (const path of this.#below.paths()) if (this.#now.get(path) === undefined) yield path;
    for (const [path, version] of this.#now.entries()) if (version !== 'gone') yield path;
  }

  find(digest: Digest): Known | undefined {
    return this.#byDigest.get(digest) ?? this.#below.find(digest);
  }

  /** As it was when a snapshot with that digest was last taken, or its diff. */
  taken(digest: Digest): FileStates | undefined {
    return this.#taken.get(digest);
  }

  #seen({ calls, from, to, late, files }: EntryData<'files.seen'>): void {
    const author = authorOf(this.#run, { calls, from, to, late });
    for (const mark of files) this.#mark(mark, author, false);
    this.#step++;
  }

  /** `exact`: it is the author who wrote it, whatever else there is of the same content. */
  #mark(mark: FileMark, author: Author, exact: boolean): void {
    switch (mark.kind) {
      case 'content':
        return this.#content(mark.path, mark.digest, author, exact);
      case 'unread':
        this.#now.set(mark.path, { digest: undefined, author, before: this.at(mark.path) });
        return;
      case 'gone':
        for (const path of this.#with(mark.path)) this.#now.set(path, 'gone');
        return;
      case 'moved':
        for (const path of this.#with(mark.path)) this.#now.set(path, 'gone');
        for (const path of this.#with(mark.from)) {
          const version = this.at(path);
          this.#now.set(path, 'gone');
          if (version !== undefined) this.#now.set(mark.path + path.slice(mark.from.length), version);
        }
    }
  }

  #content(path: string, digest: Digest, author: Author, exact: boolean): void {
    const before = this.at(path);
    if (before?.digest === digest) return;
    const known = exact ? undefined : this.find(digest);
    if (known !== undefined && before === undefined) {
      this.#now.set(path, known.version);
      return;
    }
    // Written since the last look: by another name, through a link. Whoever wrote it there wrote it here.
    const fresh = known !== undefined && known.step === this.#step;
    const version = { digest, author: fresh ? known.version.author : author, before };
    this.#now.set(path, version);
    this.#byDigest.set(digest, { version, step: this.#step });
  }

  /** A path and all below it. */
  #with(root: string): readonly string[] {
    if (this.at(root) !== undefined) return [root];
    const below: string[] = [];
    for (const path of this.paths()) if (path.startsWith(`${root}/`)) below.push(path);
    return below;
  }

  /** There may be as many as diffs of a run: none is a copy. */
  #frozen(): FileStates {
    const [now, below, byDigest] = [this.#now, this.#below, this.#byDigest];
    const [moment, found] = [now.mark(), byDigest.mark()];
    return {
      find: (digest) => {
        const known = byDigest.get(digest, found);
        return known === undefined ? below.find(digest) : { ...known, step: -1 };
      },
      at: (path) => {
        const version = now.get(path, moment);
        return version === 'gone' ? undefined : (version ?? below.at(path));
      },
      *paths() {
        for (const path of below.paths()) if (now.get(path, moment) === undefined) yield path;
        for (const [path, version] of now.entries(moment)) if (version !== 'gone') yield path;
      },
    };
  }
}

function authorOf(
  run: string,
  { calls, from, to, late = false }: Pick<EntryData<'files.seen'>, 'calls'> & Ends,
): Author {
  if (calls === 0 || from === undefined) return { kind: 'nobody', run };
  if (calls === 1) return { kind: 'call', run, callId: from, late };
  return { kind: 'between', run, from, to: to ?? from, calls };
}

interface Ends {
  readonly from: string | undefined;
  readonly to: string | undefined;
  readonly late: boolean | undefined;
}
