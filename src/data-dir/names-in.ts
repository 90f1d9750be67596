import { readdir } from 'node:fs/promises';
import { idPattern } from '../ids.ts';

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
