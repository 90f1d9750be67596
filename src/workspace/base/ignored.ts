import ignore, { type Ignore } from 'ignore';

import type { BlobStore } from '../blobs.ts';
import type { Tree } from '../change-set.ts';
import { parentOf } from '../diff.ts';

/**
 * What the `.gitignore` files of a base ignore. The base's, not the workspace's: what a tool writes into an ignore file
 * changes nothing about its own export. A file that the base already has is never asked about, tracked is tracked.
 */
export class IgnoreRules {
  readonly #rules: ReadonlyMap<string, Ignore>;
  readonly #directories = new Map<string, boolean>([['', false]]);

  private constructor(rules: ReadonlyMap<string, Ignore>) {
    this.#rules = rules;
  }

  static readonly none = new IgnoreRules(new Map());

  static async of(base: Tree, blobs: BlobStore): Promise<IgnoreRules> {
    const rules = new Map<string, Ignore>();
    for (const [path, node] of base) {
      const isIgnoreFile = path === '.gitignore' || path.endsWith('/.gitignore');
      if (!isIgnoreFile || node.kind !== 'file' || node.sizeBytes > ignoreFileBytesMax) continue;
      const text = (await blobs.get(node.digest)).toString('utf8');
      rules.set(parentOf(path), ignore({ ignoreCase: false }).add(text));
    }
    return new IgnoreRules(rules);
  }

  covers(path: string, kind: 'file' | 'directory' = 'file'): boolean {
    if (this.#rules.size === 0) return false;
    // Below an ignored directory nothing can be taken back.
    if (this.#coversDirectory(parentOf(path))) return true;
    return kind === 'directory' ? this.#coversDirectory(path) : this.#decide(path, path);
  }

  #coversDirectory(path: string): boolean {
    const known = this.#directories.get(path);
    if (known !== undefined) return known;
    const covered = this.#coversDirectory(parentOf(path)) || this.#decide(path, `${path}/`);
    if (this.#directories.size >= cachedDirectoriesMax) this.#directories.clear();
    this.#directories.set('', false);
    this.#directories.set(path, covered);
    return covered;
  }

  /** The nearest ignore file that says anything about it decides. */
  #decide(path: string, asked: string): boolean {
    for (let directory = parentOf(path); ; directory = parentOf(directory)) {
      const relative = directory === '' ? asked : asked.slice(directory.length + 1);
      const { ignored, unignored } = this.#rules.get(directory)?.test(relative) ?? { ignored: false, unignored: false };
      if (ignored || unignored) return ignored;
      if (directory === '') return false;
    }
  }
}

const ignoreFileBytesMax = 1024 * 1024;
const cachedDirectoriesMax = 10_000;
