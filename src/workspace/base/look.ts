import type { GitListing } from './git-listing.ts';
import type { LeftOut } from './left-out.ts';
import type { SeenRows } from './seen.ts';

/** What a directory of the host looked like: which names count, and what `lstat` says of each. Nothing of it is opened. */
export interface Look {
  readonly root: string;
  readonly kind: 'git' | 'plain';
  /** Of a git work tree. */
  readonly listing?: GitListing;
  /** Nothing was looked at before. */
  readonly beganMs: number;
  /** What the looker was asked: another question has another answer. */
  readonly asked: string;
  /** All that was looked at, sorted by bytes. */
  readonly names: readonly string[];
  readonly rows: SeenRows;
  /** Of each name, one of `fates`. */
  readonly fates: Uint8Array;
  /** Of the links that are brought in. */
  readonly targets: ReadonlyMap<string, string>;
  /** Sorted by bytes: all that the files lie in; of a plain directory the empty ones too. */
  readonly directories: readonly string[];
  /** Of a plain directory, of itself and of all its directories: while these are the same, so are the names. */
  readonly directoryRows?: SeenRows;
  readonly leftOut: LeftOut;
}

/** What becomes of a name: a file or a link that is brought in, or none of both. */
export const fates = { missing: 0, file: 1, link: 2, leavingLink: 3, special: 4 } as const;

export const isBroughtIn = (fate: number | undefined): boolean => fate === fates.file || fate === fates.link;

/** A look that was imported. Its rows are believed only where the content was read once it was settled. */
export interface NotedLook extends Look {
  readonly base: string;
  /** Where its names are kept, which seldom change. */
  readonly namesFile: string;
}

/** What came, went or may have changed between two looks at one directory. */
export interface Difference {
  /** Files and links, by their place among the names of the later look. */
  readonly changed: readonly number[];
  /** Files and links that are no longer there, or are directories now. */
  readonly removed: readonly string[];
  readonly directoriesAdded: readonly string[];
  readonly directoriesRemoved: readonly string[];
  /** No name came or went, and none is another kind of thing. */
  readonly isShapeSame: boolean;
}

export function isNothing({ changed, removed, directoriesAdded, directoriesRemoved }: Difference): boolean {
  return changed.length + removed.length + directoriesAdded.length + directoriesRemoved.length === 0;
}

export function differenceOf(before: Look, now: Look): Difference {
  const changed: number[] = [];
  if (before.names === now.names && before.directories === now.directories) {
    for (const [at, fate] of now.fates.entries())
      if (isBroughtIn(fate) && !now.rows.isSame(at, before.rows, at)) changed.push(at);
    return { changed, removed: [], directoriesAdded: [], directoriesRemoved: [], isShapeSame: true };
  }
  const places = new Map(before.names.map((name, at) => [name, at]));
  const stays = new Uint8Array(before.names.length);
  let isShapeSame = true;
  for (const [at, name] of now.names.entries()) {
    if (!isBroughtIn(now.fates[at])) continue;
    const place = places.get(name) ?? -1;
    const isSameKind = before.fates[place] === now.fates[at];
    if (isBroughtIn(before.fates[place])) stays[place] = 1;
    if (!isSameKind || !now.rows.isSame(at, before.rows, place)) changed.push(at);
    isShapeSame &&= isSameKind;
  }
  const removed = before.names.filter((_, at) => isBroughtIn(before.fates[at]) && stays[at] === 0);
  const [had, has] = [new Set(before.directories), new Set(now.directories)];
  const directoriesAdded = now.directories.filter((name) => !had.has(name));
  const directoriesRemoved = before.directories.filter((name) => !has.has(name));
  isShapeSame &&= removed.length + directoriesAdded.length + directoriesRemoved.length === 0;
  return { changed, removed, directoriesAdded, directoriesRemoved, isShapeSame };
}
