import { decodePath } from '../../bytes-path.ts';
import type { Base } from '../../workspace/base/import.ts';
import type { BlobStore } from '../../workspace/blobs.ts';
import type { Node } from '../../workspace/change-set.ts';
import { linkLeavesTree } from '../../workspace/changes/links.ts';
import { ancestorsOf, sortedByBytes } from '../../workspace/diff.ts';
import { digestOfTree } from '../../workspace/manifest.ts';
import { Scope } from '../../workspace/scope/scope.ts';
import type { BorrowedObjects } from './objects.ts';

/** The files of a commit that a policy lets in, as a base for sandboxes; `below` is where the workspace lies in the repository. */
export async function baseAt(
  objects: BorrowedObjects,
  commit: string,
  files: Parameters<typeof Scope.compile>[0],
  below: string | undefined,
  blobs: BlobStore,
): Promise<Base> {
  const scope = Scope.compile(files);
  const within = below === undefined ? '' : `${below}/`;
  const wanted = new Map<string, { readonly path: string; readonly mode: string }[]>();
  for (const [whole, { mode, id }] of await objects.entriesOf(commit)) {
    const path = whole.slice(within.length);
    if (!whole.startsWith(within) || mode === '160000' || !scope.imports(path)) continue;
    wanted.set(id, [...(wanted.get(id) ?? []), { path, mode }]);
  }
  const nodes = new Map<string, Node>();
  for await (const [id, content] of objects.contents(wanted.keys())) {
    for (const { path, mode } of wanted.get(id) ?? []) {
      if (mode === '120000') nodes.set(path, { kind: 'symlink', target: decodePath(content) });
      else {
        const digest = await blobs.put(content);
        const sizeBytes = content.length;
        nodes.set(path, { kind: 'file', mode: mode === '100755' ? 0o755 : 0o644, digest, sizeBytes });
      }
    }
  }
  const tree = sortedByBytes(withDirectories(withoutLeavingLinks(nodes)));
  const place = below === undefined ? {} : { below };
  return { tree, digest: digestOfTree(tree), scopeDigest: scope.digest, kind: 'git', commit, ...place };
}

/** As an import leaves them out. */
function withoutLeavingLinks(nodes: ReadonlyMap<string, Node>): ReadonlyMap<string, Node> {
  const targetOf = (path: string): string | undefined => {
    const node = nodes.get(path);
    return node?.kind === 'symlink' ? node.target : undefined;
  };
  return new Map(
    [...nodes].filter(([path, node]) => node.kind !== 'symlink' || !linkLeavesTree(path, node.target, targetOf)),
  );
}

function withDirectories(nodes: ReadonlyMap<string, Node>): ReadonlyMap<string, Node> {
  const all = new Map(nodes);
  for (const path of nodes.keys()) for (const above of ancestorsOf(path)) all.set(above, { kind: 'directory' });
  return all;
}
