import { closeSync, constants, openSync, readdirSync } from 'node:fs';

import { decodePath, encodePath } from '../../bytes-path.ts';

/**
 * The directories of a hostile tree that are wanted, from the top down, each with the whole paths of what it holds. Every
 * one is opened by its name in the one that was opened before it, so that none is reached through a link, whatever changes
 * meanwhile; nothing but directories is opened.
 */
export function wantedDirectories(
  root: string,
  isWanted: (path: string) => boolean,
): ReadonlyMap<string, ReadonlySet<string>> {
  const found = new Map<string, ReadonlySet<string>>();
  // As deep as what is wanted: the directories of a base, which are bounded.
  const look = (directory: number, place: string): void => {
    const opened = `/proc/self/fd/${directory}`;
    const paths = new Map<string, Buffer>();
    for (const name of readdirSync(opened, 'buffer'))
      paths.set(place === '' ? decodePath(name) : `${place}/${decodePath(name)}`, name);
    found.set(place, new Set(paths.keys()));
    for (const [path, name] of paths) {
      if (!isWanted(path)) continue;
      const below = openBelow(directory, name);
      if (below !== undefined) within(below, () => look(below, path));
    }
  };
  const top = openSync(root, asDirectory);
  within(top, () => look(top, ''));
  return found;
}

/** A hostile directory, opened by its name in one that is held open; for `within`. */
export function openBelow(directory: number, name: Buffer): number | undefined {
  return openUnlessGone(Buffer.concat([encodePath(`/proc/self/fd/${directory}/`), name]));
}

export const asDirectory = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** Undefined where there is no directory of that name (any more). */
function openUnlessGone(path: Buffer): number | undefined {
  try {
    return openSync(path, asDirectory);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (['ENOTDIR', 'ELOOP', 'ENOENT'].includes(code)) return undefined;
    throw error;
  }
}

function within(directory: number, work: () => void): void {
  try {
    work();
  } finally {
    closeSync(directory);
  }
}
