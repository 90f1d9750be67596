import { FileError, type FileErrorCode } from './spec.ts';

/** Linux error numbers, the same on all architectures that we run on (asm-generic/errno*.h), and what they mean to an agent. */
const meanings: ReadonlyMap<number, readonly [FileErrorCode, string]> = new Map([
  [1, ['permission_denied', 'not permitted']],
  [2, ['not_found', 'no such file or directory']],
  [6, ['not_regular', 'it is not a regular file']],
  [13, ['permission_denied', 'permission denied']],
  [16, ['permission_denied', 'it is in use as a mount point']],
  [17, ['exists', 'it exists already']],
  [19, ['not_regular', 'it is not a regular file']],
  [20, ['not_directory', 'a part of the path is not a directory']],
  [21, ['is_directory', 'it is a directory']],
  [22, ['invalid_path', 'the path or the request is not valid']],
  [26, ['permission_denied', 'it is being executed']],
  [27, ['too_large', 'it would become too large']],
  [28, ['no_space', 'no space is left']],
  [29, ['not_regular', 'it is not a regular file']],
  [30, ['read_only', 'it is on a read-only file system']],
  [36, ['invalid_path', 'the name is too long']],
  [39, ['not_empty', 'the directory is not empty']],
  [40, ['too_many_links', 'too many symbolic links']],
  [74, ['conflict', 'the file is not what it was expected to be; read it again']],
  [95, ['not_regular', 'it is not a regular file']],
  [122, ['no_space', 'the quota is used up']],
]);

export function fileErrorOf(errno: number, path: string, verb: string): FileError {
  const [code, meaning] = meanings.get(errno) ?? (['io', `errno ${errno}`] as const);
  return new FileError(code, path, `${verb} ${JSON.stringify(path)}: ${meaning}`);
}

export function fileErrorCode(errno: number): FileErrorCode {
  return meanings.get(errno)?.[0] ?? 'io';
}
