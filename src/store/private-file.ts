import { closeSync, openSync } from 'node:fs';

/**
 * Empty and 0600, where it is missing. One that is there is never opened: closing any descriptor of a file gives up all locks
 * that this process has on it (POSIX), SQLite's among them.
 */
export function makePrivate(file: string): void {
  try {
    closeSync(openSync(file, 'wx', 0o600));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}
