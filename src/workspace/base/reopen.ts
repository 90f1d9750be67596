import type { UnpackItem } from '../../sandbox/spec.ts';
import type { BlobStore } from '../blobs.ts';
import type { Node } from '../change-set.ts';
import { planOwnership } from './ownership.ts';
import type { Base, WorkspaceImport } from './import.ts';
import type { Scope } from '../scope/scope.ts';
import type { SelectedFile } from './select.ts';

/**
 * A base that is known already, for another sandbox: contents come from the blob store, not from the host directory,
 * which may have moved on since.
 */
export function reopenBase(base: Base, scope: Scope, blobs: BlobStore): WorkspaceImport {
  const directories: string[] = [];
  const files: SelectedFile[] = [];
  for (const [path, node] of base.tree) {
    if (node.kind === 'directory') directories.push(path);
    else if (node.kind === 'symlink') files.push({ kind: 'symlink', path, target: node.target });
    else files.push({ kind: 'file', path, sizeBytes: node.sizeBytes });
  }
  const ownership = planOwnership({ directories, files }, scope);
  const read = async ([path, node]: readonly [string, Node]): Promise<UnpackItem | undefined> => {
    if (node.kind === 'directory') return undefined;
    const { owner } = ownership.of(path);
    if (node.kind === 'symlink') return { path, type: 'symlink', mode: 0o777, owner, target: node.target };
    const { mode, sizeBytes, digest } = node;
    const content = sizeBytes <= wholeBytesMax ? await blobs.get(digest) : blobs.stream(digest);
    return { path, type: 'file', mode, owner, content, sizeBytes };
  };
  return {
    root: ownership.of(''),
    files: files.length,
    sizeBytes: files.reduce((sum, file) => sum + (file.kind === 'file' ? file.sizeBytes : 0), 0),
    items: (async function* () {
      for (const path of directories) yield { path, type: 'directory', ...ownership.of(path) } as const;
      const entries = [...base.tree];
      for (let at = 0; at < entries.length; at += readAtOnce)
        for (const item of await Promise.all(entries.slice(at, at + readAtOnce).map(read)))
          if (item !== undefined) yield item;
    })(),
    base: () => base,
  };
}

const readAtOnce = 16;
const wholeBytesMax = 1024 * 1024;
