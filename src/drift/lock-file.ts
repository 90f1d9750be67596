import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { messageOf, RunnerError } from '../errors.ts';
import { formatLock, type DriftLock } from './lock.ts';

/**
 * Writes a lock where a repository has it. The directory may be anybody's, and what a lock says is what a sandbox has made: no link
 * is followed, so that it lands in no other file, and nothing but a plain file is written over. Throws `invalid_request`.
 */
export async function writeLock(path: string, lock: DriftLock): Promise<void> {
  const { O_WRONLY, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;
  const refused = (why: string, cause?: unknown): RunnerError =>
    new RunnerError('invalid_request', `cannot write ${path}: ${why}; remove it, or name another file (--output)`, {
      cause,
    });
  const file = await open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o644).catch((cause: unknown) => {
    const isLink = cause instanceof Error && 'code' in cause && cause.code === 'ELOOP';
    throw refused(isLink ? 'it is a link, which leads somewhere else' : messageOf(cause), cause);
  });
  try {
    if (!(await file.stat()).isFile()) throw refused('it is no plain file');
    await file.truncate(0);
    await file.writeFile(formatLock(lock));
  } finally {
    await file.close();
  }
}
