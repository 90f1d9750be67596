import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';

import { canonicalJson, digestOf, digestPattern, type Digest } from '../../digest.ts';
import { RunnerError } from '../../errors.ts';
import type { Node, Tree } from '../change-set.ts';
import { sizeOf } from '../diff.ts';
import type { Base } from './import.ts';
import type { Scope } from '../scope/scope.ts';
import { TreeIndex } from '../changes/tree-index.ts';

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
});
export type BaseMeta = Readonly<z.infer<typeof BaseMeta>>;

/** A base in the store. Its tree is read from the manifest when it is first asked for. */
export class StoredBase implements Base {
  readonly key: string;
  readonly meta: BaseMeta;
  /** The files, on this machine, as they are in the sandbox. */
  readonly directory: string;
  readonly manifest: string;
  #tree: Tree | undefined;
  #index: TreeIndex | undefined;

  constructor(directory: string, meta: BaseMeta, tree?: Tree) {
    this.key = path.basename(directory);
    this.meta = meta;
    this.directory = path.join(directory, 'tree');
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
    this.#tree ??= readManifest(this.manifest, this.meta.digest);
    return this.#tree;
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

type Counts = Pick<BaseMeta, 'files' | 'directories' | 'symlinks' | 'bytes' | 'scratch'>;

export function countsOf(tree: Tree, scope: Scope): Counts {
  const counts = { files: 0, directories: 0, symlinks: 0, bytes: 0, scratch: { files: 0, bytes: 0 } };
  for (const [path, node] of tree) {
    if (node.kind !== 'directory' && scope.classOf(path) === 'scratch') {
      counts.scratch.files++;
      counts.scratch.bytes += sizeOf(node);
    }
    if (node.kind === 'directory') counts.directories++;
    else if (node.kind === 'symlink') counts.symlinks++;
    else {
      counts.files++;
      counts.bytes += node.sizeBytes;
    }
  }
  return counts;
}

/** Undefined for what is not there, or not of this version. */
export async function readMeta(store: string, key: string): Promise<BaseMeta | undefined> {
  try {
    const parsed = BaseMeta.safeParse(JSON.parse(await readFile(path.join(store, key, 'meta.json'), 'utf8')));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

/** Of `ownership.ts` and `base-writer.ts`: raised when the same tree would be written differently. */
const ownershipRules = 1;

/** Its digest proves that it is what was written, so its shape needs no second look. */
function readManifest(file: string, expected: Digest): Tree {
  const text = readFileSync(file);
  if (digestOf(text) !== expected)
    throw new RunnerError('data_dir_unusable', `${file} was changed; remove its base (glovebox base rm) and try again`);
  const { entries } = JSON.parse(text.toString('utf8')) as { entries: [string, Node][] };
  return new Map(entries);
}
