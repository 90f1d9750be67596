import { readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';

import { canonicalJson, digestOf, digestPattern, type Digest } from '../../digest.ts';
import { RunnerError } from '../../errors.ts';
import type { Node, Tree } from '../change-set.ts';
import { sizeOf } from '../diff.ts';
import { BaseFiles } from './base-files.ts';
import type { Base } from './import.ts';
import type { Scope } from '../scope/scope.ts';
import { TreeIndex } from '../changes/tree-index.ts';
import { TreeText } from './tree-text.ts';

const digestText = z.custom<Digest>((value) => typeof value === 'string' && digestPattern.test(value), 'not a digest');
const count = z.int().nonnegative();

/** `meta.json`: what can be said about a base without its tree. */
export const BaseMeta = z.strictObject({
  format: z.literal('glovebox.base/v1'),
  digest: digestText,
  scopeDigest: digestText,
  kind: z.enum(['git', 'plain']),
  root: z.strictObject({ owner: z.enum(['root', 'tool']), mode: z.int() }),
  /** The directory it was first imported from. */
  source: z.string(),
  bootId: z.string(),
  files: count,
  directories: count,
  symlinks: count,
  bytes: count,
  /** What lies in scratch paths. */
  scratch: z.strictObject({ files: count, bytes: count }),
  /** Of one that holds only what is not as in the whole base of that key; with how many names. */
  delta: z.strictObject({ over: z.string().regex(/^[0-9a-f]{64}$/), names: count }).optional(),
});
export type BaseMeta = Readonly<z.infer<typeof BaseMeta>>;

/** A base in the store. Its tree is read from the manifest when it is first asked for. */
export class StoredBase implements Base {
  readonly key: string;
  readonly meta: BaseMeta;
  /** What it holds itself: all of it, or what differs from the whole base below. */
  readonly directory: string;
  /** Of the base that holds the rest, or of this one. */
  readonly whole: string;
  /** The files, on this machine, as they are in the sandbox. */
  readonly files: BaseFiles;
  readonly manifest: string;
  #tree: Tree | undefined;
  #index: TreeIndex | undefined;

  constructor(directory: string, meta: BaseMeta, tree?: Tree) {
    this.key = path.basename(directory);
    this.meta = meta;
    this.directory = path.join(directory, 'tree');
    const below = meta.delta && path.join(path.dirname(directory), meta.delta.over, 'tree');
    this.whole = below ?? this.directory;
    this.files = new BaseFiles(below === undefined ? [this.directory] : [this.directory, below]);
    this.manifest = path.join(directory, 'manifest.json');
    this.#tree = tree;
  }

  get digest(): Digest {
    return this.meta.digest;
  }

  get scopeDigest(): Digest {
    return this.meta.scopeDigest;
  }

  get kind(): BaseMeta['kind'] {
    return this.meta.kind;
  }

  get tree(): Tree {
    this.#tree ??= treeIn(this.readText());
    return this.#tree;
  }

  /** The manifest, proven to be what was written. */
  readText(): TreeText {
    const bytes = readFileSync(this.manifest);
    if (digestOf(bytes) === this.meta.digest) return new TreeText(bytes);
    const message = `${this.manifest} was changed; remove its base (glovebox base rm) and try again`;
    throw new RunnerError('data_dir_unusable', message);
  }

  get index(): TreeIndex {
    this.#index ??= new TreeIndex(this.tree);
    return this.#index;
  }
}

/** Same content, same scope, same rules: same base. Ignore files count in a git work tree, and nowhere else. */
export function keyOf({ digest, scopeDigest, kind }: Pick<Base, 'digest' | 'scopeDigest' | 'kind'>): string {
  return digestOf(canonicalJson({ tree: digest, scope: scopeDigest, kind, ownership: ownershipRules })).slice(7);
}

export const keyPattern = /^[0-9a-f]{64}$/;

export type Counts = Pick<BaseMeta, 'files' | 'directories' | 'symlinks' | 'bytes' | 'scratch'>;
type Tally = { -readonly [Name in keyof Counts]: Counts[Name] };

export function countsOf(tree: Tree, scope: Scope): Counts {
  const counts = { files: 0, directories: 0, symlinks: 0, bytes: 0, scratch: { files: 0, bytes: 0 } };
  for (const [path, node] of tree) add(counts, path, node, scope, 1);
  return counts;
}

/** Of a base after changes; undefined stands for what is gone. */
export function countsAfter(
  before: Counts,
  changes: ReadonlyMap<string, Node | undefined>,
  text: TreeText,
  scope: Scope,
): Counts {
  const { files, directories, symlinks, bytes, scratch } = before;
  const counts = { files, directories, symlinks, bytes, scratch: { ...scratch } };
  for (const [path, now] of changes) {
    const was = text.find(path);
    if (was !== undefined) add(counts, path, was, scope, -1);
    if (now !== undefined) add(counts, path, now, scope, 1);
  }
  return counts;
}

function add(counts: Tally, path: string, node: Node, scope: Scope, times: 1 | -1): void {
  if (node.kind !== 'directory' && scope.classOf(path) === 'scratch') {
    counts.scratch.files += times;
    counts.scratch.bytes += times * sizeOf(node);
  }
  if (node.kind === 'directory') counts.directories += times;
  else if (node.kind === 'symlink') counts.symlinks += times;
  else {
    counts.files += times;
    counts.bytes += times * node.sizeBytes;
  }
}

/** Undefined for what is not there, or not of this version. */
export function readMeta(store: string, key: string): BaseMeta | undefined {
  try {
    const parsed = BaseMeta.safeParse(JSON.parse(readFileSync(path.join(store, key, 'meta.json'), 'utf8')));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

/** Of `ownership.ts` and `base-writer.ts`: raised when the same tree would be written differently. */
const ownershipRules = 1;

/** It is proven to be what was written, so its shape needs no second look. */
function treeIn({ bytes }: TreeText): Tree {
  const { entries } = JSON.parse(bytes.toString('utf8')) as { entries: [string, Node][] };
  return new Map(entries);
}
