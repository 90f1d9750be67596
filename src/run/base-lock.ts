import { digestOf } from '../digest.ts';
import { lockBytesMax, lockName, parseLock, type ParsedLock } from '../drift/lock.ts';
import { RunnerError } from '../errors.ts';
import type { Files } from '../sandbox/spec.ts';
import type { Tree } from '../workspace/change-set.ts';

/**
 * What the files that a run begins with say of its environment; undefined where they say nothing. Asked before anything is laid over
 * them; what is read is what the base names by digest. Throws `import_refused`.
 */
export async function findLock(tree: Tree, files: Pick<Files, 'read'>): Promise<ParsedLock | undefined> {
  const node = tree.get(lockName);
  if (node === undefined) return undefined;
  const refused = (what: string): RunnerError =>
    new RunnerError('import_refused', `${lockName} ${what}; write it again, or remove it`);
  if (node.kind !== 'file') throw refused(`is a ${node.kind}, and has to be a file`);
  if (node.sizeBytes > lockBytesMax) throw refused(`is longer than ${lockBytesMax} bytes`);
  const { bytes } = await files.read(lockName, { maxBytes: lockBytesMax });
  if (digestOf(bytes) !== node.digest) throw refused('is not what was imported');
  return parseLock(bytes.toString('utf8'));
}
