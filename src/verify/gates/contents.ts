import type { BlobStore } from '../../workspace/blobs.ts';
import type { Change, Node } from '../../workspace/change-set.ts';

/** Of one file, for looking at its text. */
const lookedAtBytesMax = 8 * 1024 * 1024;

/** A file's content, one character a byte; undefined where it is no file, or is longer than what is looked at. */
export async function textOf(blobs: BlobStore, node: Node | Change | undefined): Promise<string | undefined> {
  if (node?.kind !== 'file' || node.sizeBytes > lookedAtBytesMax) return undefined;
  return (await blobs.get(node.digest)).toString('latin1');
}

export function isTooLong(node: Node | Change | undefined): boolean {
  return node?.kind === 'file' && node.sizeBytes > lookedAtBytesMax;
}
