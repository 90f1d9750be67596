import { linkSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync, type Stats } from 'node:fs';

import { decodePath } from '../../bytes-path.ts';
import { toolGid, toolUid } from '../../sandbox/environment.ts';
import { parentOf } from '../diff.ts';
import { hostName, hostPath } from './host-path.ts';
import { own, type Ownership } from './ownership.ts';
import { RealDirectories } from './real-directories.ts';

/**
 * A directory that shows, laid over a whole base by an overlay, what that base has become. Promises:
 *  - nothing of the whole base shows through where something was removed or replaced, also where a directory comes back;
 *  - no file of the base is written: what stays as it was is one more name of the same file;
 *  - nothing outside this directory changes, and no link in it or in the base is followed.
 */
export class DeltaTree {
  readonly #into: string;
  readonly #whole: string;
  readonly #wholeDirectories: RealDirectories;
  readonly #whiteout: string;
  readonly #ownershipOf: (directory: string) => Ownership;
  readonly #made = new Set(['']);
  #count = 0;

  /** `whiteout`: a device that overlays take for "nothing is here", of which this needs more names. */
  constructor(into: string, whole: string, whiteout: string, ownershipOf: (directory: string) => Ownership) {
    this.#into = into;
    this.#whole = whole;
    this.#wholeDirectories = new RealDirectories(whole);
    this.#whiteout = whiteout;
    this.#ownershipOf = ownershipOf;
    mkdirSync(into, { mode: 0o755 });
  }

  /** Names in it, or a few more. */
  get count(): number {
    return this.#count;
  }

  /** Begins as another one over the same base. */
  copy(earlier: string, place = ''): void {
    const from = place === '' ? Buffer.from(earlier) : hostPath(earlier, place);
    for (const entry of readdirSync(from, { withFileTypes: true, encoding: 'buffer' })) {
      const name = decodePath(entry.name);
      const path = place === '' ? name : `${place}/${name}`;
      const [at, target] = [hostName(earlier, path), hostName(this.#into, path)];
      this.#count++;
      if (!entry.isDirectory()) {
        linkSync(at, target);
        continue;
      }
      mkdirSync(target);
      own(target, ownershipLike(lstatSync(at)));
      this.copy(earlier, path);
    }
  }

  /** What was there is gone, and the directory it was in is still one. */
  remove(path: string): void {
    this.directory(parentOf(path));
    const at = hostName(this.#into, path);
    rmSync(at, { recursive: true, force: true });
    if (this.#wholeDirectories.lookAt(path) === undefined) return;
    linkSync(this.#whiteout, at);
    this.#count++;
  }

  /** Moves a file or a link there, whatever was there before. */
  put(path: string, draft: string): void {
    this.directory(parentOf(path));
    const at = hostName(this.#into, path);
    rmSync(at, { recursive: true, force: true });
    renameSync(draft, at);
    this.#count++;
  }

  /** Makes sure that it is a directory, owned as it is to be. */
  directory(path: string): void {
    if (this.#made.has(path)) return;
    this.directory(parentOf(path));
    const at = hostName(this.#into, path);
    const before = lstatSync(at, { throwIfNoEntry: false });
    if (before?.isDirectory() !== true) {
      if (before !== undefined) rmSync(at);
      mkdirSync(at);
      this.#count++;
      if (before !== undefined) this.#hideAllIn(path);
    }
    own(at, this.#ownershipOf(path));
    this.#made.add(path);
  }

  /** What was hidden with a directory stays so when one of that name comes back. */
  #hideAllIn(place: string): void {
    if (this.#wholeDirectories.lookAt(place)?.isDirectory() !== true) return;
    for (const name of readdirSync(hostPath(this.#whole, place), 'buffer')) {
      linkSync(this.#whiteout, hostName(this.#into, `${place}/${decodePath(name)}`));
      this.#count++;
    }
  }
}

function ownershipLike({ uid, gid, mode }: Stats): Ownership {
  return { owner: uid === toolUid && gid === toolGid ? 'tool' : 'root', mode: mode & 0o7777 };
}
