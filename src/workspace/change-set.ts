import type { Digest } from '../digest.ts';

/**
 * The one form of diff, snapshot, fork, candidate and promotion: path -> what is there now, or that nothing is.
 * Paths are relative to the workspace, separated by `/`, bytes escaped as in `bytes-path.ts`, sorted by their bytes.
 */
export interface ChangeSet {
  readonly changes: ReadonlyMap<string, Change>;
}

export type Change = Node | { readonly kind: 'deleted' };

export type Node =
  | { readonly kind: 'file'; readonly mode: 0o644 | 0o755; readonly digest: Digest; readonly sizeBytes: number }
  | { readonly kind: 'symlink'; readonly target: string }
  | { readonly kind: 'directory' };

/** A whole tree in the same terms. Directories are listed too, so that empty ones are not lost. */
export type Tree = ReadonlyMap<string, Node>;
