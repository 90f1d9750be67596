import { lstatSync, type Stats } from 'node:fs';

import { RunnerError } from '../../errors.ts';
import { parentOf } from '../diff.ts';
import { hostName } from './host-path.ts';

/** The directories of a tree, as they were found: what lies below one that has become a link would be looked at through it. */
export class RealDirectories {
  readonly #root: string;
  readonly #known = new Map<string, boolean>([['', true]]);
  #last = '';
  #isLastReal = true;

  constructor(root: string) {
    this.#root = root;
  }

  /** What is there, if everything above it is a directory. */
  lookAt(name: string): Stats | undefined {
    return this.leadTo(name) ? lookAt(this.#root, name) : undefined;
  }

  /** Whether everything above a path is a directory. Paths in order are answered from the last one. */
  leadTo(name: string): boolean {
    const parent = parentOf(name);
    if (parent === this.#last) return this.#isLastReal;
    const known = this.#known.get(parent);
    const real = known ?? (this.leadTo(parent) && lookAt(this.#root, parent)?.isDirectory() === true);
    if (known === undefined) this.#known.set(parent, real);
    [this.#last, this.#isLastReal] = [parent, real];
    return real;
  }
}

function lookAt(root: string, name: string): Stats | undefined {
  try {
    return lstatSync(hostName(root, name), { throwIfNoEntry: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return undefined;
    throw new RunnerError('import_refused', `import: ${JSON.stringify(name)} cannot be looked at`, { cause: error });
  }
}
