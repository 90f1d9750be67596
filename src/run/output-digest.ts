import { createHash } from 'node:crypto';
import { digestOf, type Digest } from '../digest.ts';
import type { OutputLog } from '../sandbox/output-log.ts';

/** Of all that a command has written, in the order in which it came. */
export async function outputDigest(output: OutputLog): Promise<Digest> {
  const first = await output.read(0, pieceBytes);
  if (first.done || first.bytes.length === 0) return digestOf(first.bytes); // nearly always
  const hash = createHash('sha256').update(first.bytes);
  for (let offset = first.nextOffset; ;) {
    const { bytes, nextOffset, done } = await output.read(offset, pieceBytes);
    hash.update(bytes);
    if (done || bytes.length === 0) return `sha256:${hash.digest('hex')}`;
    offset = nextOffset;
  }
}

const pieceBytes = 1 << 20;
