import { readdir } from 'node:fs/promises';
import { idPattern, newId, timeOfId } from '../ids.ts';

/** What lies in a directory; nothing where it was never made. */
export async function namesIn(directory: string): Promise<readonly string[]> {
  return readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
}

/** Ids of the records `<id>.json` in a directory, the oldest first: ids begin with the time. */
export async function recordIdsIn(directory: string): Promise<readonly string[]> {
  const names = (await namesIn(directory)).filter((name) => name.endsWith('.json'));
  return names
    .map((name) => name.slice(0, -'.json'.length))
    .filter((id) => idPattern.test(id))
    .sort();
}

/**
 * For a record that is to be the newest of a directory. What is newest holds, so no clock that was set back puts a later word before
 * an earlier one.
 */
export async function newestIdIn(directory: string, nowMs: number = Date.now()): Promise<string> {
  return newId(timeAfter(await recordIdsIn(directory), nowMs));
}

/** Now, or right after the last of these records. */
export function timeAfter(ids: readonly string[], nowMs: number): number {
  const last = ids.at(-1);
  return last === undefined ? nowMs : Math.max(nowMs, timeOfId(last) + 1);
}
