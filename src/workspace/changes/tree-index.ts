import type { BlobStore } from '../blobs.ts';
import type { Tree } from '../change-set.ts';
import { parentOf } from '../diff.ts';
import { foldedName } from './fold.ts';
import { IgnoreRules } from '../base/ignored.ts';

/** What an export asks about a whole base. Each answer is found once, when it is first asked for: an export costs its changes. */
export class TreeIndex {
  readonly tree: Tree;
  #children: ReadonlyMap<string, readonly string[]> | undefined;
  #spellings: ReadonlyMap<string, number> | undefined;
  #links: readonly string[] | undefined;
  #heads: readonly string[] | undefined;
  #ignoreRules: Promise<IgnoreRules> | undefined;

  constructor(tree: Tree) {
    this.tree = tree;
  }

  /** Whole paths. */
  childrenOf(directory: string): readonly string[] {
    this.#children ??= childrenIn(this.tree);
    return this.#children.get(directory) ?? [];
  }

  /** How many paths are this one but for case and spelling. */
  spellingsOf(folded: string): number {
    this.#spellings ??= spellingsIn(this.tree);
    return this.#spellings.get(folded) ?? 0;
  }

  get links(): readonly string[] {
    this.#links ??= [...this.tree].flatMap(([path, node]) => (node.kind === 'symlink' ? [path] : []));
    return this.#links;
  }

  /** Whatever is called `HEAD`. */
  get heads(): readonly string[] {
    this.#heads ??= [...this.tree.keys()].filter(isHead);
    return this.#heads;
  }

  ignoreRules(blobs: BlobStore): Promise<IgnoreRules> {
    this.#ignoreRules ??= IgnoreRules.of(this.tree, blobs).catch((error: unknown) => {
      this.#ignoreRules = undefined; // asked again, it may be there
      throw error;
    });
    return this.#ignoreRules;
  }
}

export function isHead(path: string): boolean {
  return path === 'HEAD' || path.endsWith('/HEAD');
}

function childrenIn(tree: Tree): ReadonlyMap<string, readonly string[]> {
  const children = new Map<string, string[]>();
  for (const path of tree.keys()) {
    const parent = parentOf(path);
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [path]);
    else siblings.push(path);
  }
  return children;
}

function spellingsIn(tree: Tree): ReadonlyMap<string, number> {
  const spellings = new Map<string, number>();
  for (const path of tree.keys()) {
    const folded = foldedName(path);
    spellings.set(folded, (spellings.get(folded) ?? 0) + 1);
  }
  return spellings;
}
