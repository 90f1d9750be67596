import { lstatSync, readdirSync, type BigIntStats } from 'node:fs';

import { decodePath } from '../../bytes-path.ts';
import { hostName, hostPath } from './host-path.ts';
import { RealDirectories } from './real-directories.ts';

/**
 * Where the files of a base lie on this machine: in a directory of its own, or, for what has not changed, in that of the
 * base it is laid over. They show what an overlay of these directories shows, whoever asks only for paths of its tree.
 */
export class BaseFiles {
  /** The first one is on top. */
  readonly directories: readonly [string, ...string[]];
  readonly #real: ReadonlyMap<string, RealDirectories>;

  constructor(directories: readonly [string, ...string[]]) {
    this.directories = directories;
    this.#real = new Map(directories.map((directory) => [directory, new RealDirectories(directory)]));
  }

  /** The one that holds what the base shows at a path of its tree. */
  directoryOf(path: string): string {
    const [top, ...below] = this.directories;
    if (below.length === 0) return top;
    return this.directories.find((directory) => this.#real.get(directory)?.lookAt(path) !== undefined) ?? top;
  }

  /** Whether there is such a name at the top. */
  shows(name: string): boolean {
    const seen = this.lookAt(name);
    return seen !== undefined && !seen.isCharacterDevice(); // which hides what is below
  }

  /** The whole paths in a directory, and perhaps some that the base has no more: its tree knows. */
  namesIn(place: string): ReadonlySet<string> {
    const names = new Set<string>();
    for (const directory of this.directories) {
      if (place !== '' && this.#real.get(directory)?.lookAt(place)?.isDirectory() !== true) continue;
      const at = place === '' ? Buffer.from(directory) : hostPath(directory, place);
      for (const name of readdirSync(at, 'buffer'))
        names.add(place === '' ? decodePath(name) : `${place}/${decodePath(name)}`);
    }
    return names;
  }

  /** Of what the base shows there; a directory that lies in both is shown as the one on top. */
  lookAt(path: string): BigIntStats | undefined {
    return lstatSync(hostName(this.directoryOf(path), path), { bigint: true, throwIfNoEntry: false });
  }
}
