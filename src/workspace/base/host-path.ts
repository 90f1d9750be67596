import { readlinkSync } from 'node:fs';
import path from 'node:path';

import { encodePath } from '../../bytes-path.ts';

/** Where a path of the workspace lies on the host, as bytes. */
export function hostPath(root: string, name: string): Buffer {
  return Buffer.concat([Buffer.from(root === path.sep ? '' : root), Buffer.from(path.sep), encodePath(name)]);
}

/** The same for many calls in a row: thousands of buffers less. */
export function hostName(root: string, name: string): Buffer | string {
  return /[\uD800-\uDFFF]/.test(name) ? hostPath(root, name) : `${root === path.sep ? '' : root}${path.sep}${name}`;
}

/** Whether an open file is the one at that path: a directory above it may have become a link before it was opened. */
export function liesAt(descriptor: number, root: string, name: string): boolean {
  return readlinkSync(`/proc/self/fd/${descriptor}`, 'buffer').equals(hostPath(root, name));
}
