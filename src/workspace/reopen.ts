import type { BlobStore } from './blobs.ts';
import { planOwnership } from './ownership.ts';
import type { Base, WorkspaceImport } from './import.ts';
import type { Scope } from './scope.ts';
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
  return {
    root: ownership.of(''),
    files: files.length,
    sizeBytes: files.reduce((sum, file) => sum + (file.kind === 'file' ? file.sizeBytes : 0), 0),
    items: (async function* () {
      for (const path of directories) yield { path, type: 'directory', ...ownership.of(path) } as const;
      for (const [path, node] of base.tree) {
        const { owner } = ownership.of(path);
        if (node.kind === 'symlink') yield { path, type: 'symlink', mode: 0o777, owner, target: node.target } as const;
        if (node.kind !== 'file') continue;
        const { mode, sizeBytes, digest } = node;
        const content = sizeBytes <= wholeBytesMax ? await blobs.get(digest) : blobs.stream(digest);
        yield { path, type: 'file', mode, owner, content, sizeBytes } as const;
      }
    })(),
    base: () => base,
  };
}

const wholeBytesMax = 1024 * 1024;
