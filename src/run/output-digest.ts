import { createHash } from 'node:crypto';
import type { Digest } from '../digest.ts';
import type { OutputLog } from '../sandbox/output-log.ts';

/** Of all that a command has written, in the order in which it came. */
export async function outputDigest(output: OutputLog): Promise<Digest> {
  const hash = createHash('sha256');
  for (let offset = 0; ;) {
    const { bytes, nextOffset, done } = await output.read(offset, 1 << 20);
    hash.update(bytes);
    if (done || bytes.length === 0) return `sha256:${hash.digest('hex')}`;
    offset = nextOffset;
  }
}
