import { RunnerError } from '../../errors.ts';

/** What an archive may hold. Owners, times and everything else that a tar can say are not carried. */
export interface TarEntry {
  /** Relative, no `.` or `..`, separated by `/`; bytes escaped as in `bytes-path.ts`. */
  readonly path: string;
  readonly type: 'file' | 'directory' | 'symlink';
  /** Permission bits. */
  readonly mode: number;
  readonly content: Buffer;
  /** Of a symbolic link, else empty. */
  readonly target: string;
}

/** The same without its content, which lies in the archive. */
export interface TarItem extends Omit<TarEntry, 'content'> {
  readonly start: number;
  readonly sizeBytes: number;
}

export interface TarLimits {
  readonly entriesMax: number;
  /** Of all contents together; hard links count again, as they become copies. */
  readonly bytesMax: number;
}

export const tarLimits: TarLimits = { entriesMax: 100_000, bytesMax: 536_870_912 };

export const blockBytes = 512;

export function archiveRefused(message: string): RunnerError {
  return new RunnerError('archive_refused', `archive refused, nothing was written: ${message}`);
}
