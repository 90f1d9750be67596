import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { DataDir } from '../data-dir/data-dir.ts';

/**
 * The contents that are named by runs and by bases, wherever in their JSON files; as 64 hex digits, some of them often. One too
 * many keeps a content, one too few would lose it: so the files are not parsed, and nothing is known of their form. `without`:
 * files and run directories that count as gone.
 */
export async function forEachNamed(
  dataDir: DataDir,
  without: ReadonlySet<string>,
  onNamed: (hex: string) => void,
): Promise<void> {
  const seen = new Set<string>(); // a base is one file under many names
  for (const file of await filesOf(dataDir)) {
    if ([file, dirname(file), dirname(dirname(file))].some((path) => without.has(path))) continue;
    const found = await stat(file).catch(() => undefined); // removed meanwhile
    if (found === undefined || seen.has(`${found.dev}:${found.ino}`)) continue;
    seen.add(`${found.dev}:${found.ino}`);
    await scan(file, onNamed);
  }
}

async function filesOf(dataDir: DataDir): Promise<readonly string[]> {
  const files: string[] = [];
  for (const dir of await dataDir.listRuns()) {
    for (const entry of await readdir(dir.path, { withFileTypes: true }).catch(() => [])) {
      const path = join(dir.path, entry.name);
      if (entry.isFile()) files.push(path);
      else if (entry.isDirectory() && path !== dir.callsDir && path !== dir.layer) files.push(...(await namesIn(path)));
    }
  }
  // A base's own files are in its tree; of those that say what to ignore, diffs want the content.
  for (const key of await readdir(dataDir.basesDir).catch(() => []))
    files.push(join(dataDir.basesDir, key, 'manifest.json'));
  return files.filter((file) => file.endsWith('.json'));
}

async function namesIn(directory: string): Promise<readonly string[]> {
  return (await readdir(directory).catch(() => [])).map((name) => join(directory, name));
}

/** In pieces: the list of a large base is megabytes, and a service goes on meanwhile. */
async function scan(file: string, onNamed: (hex: string) => void): Promise<void> {
  let rest = '';
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: 128 * 1024 })) {
      const text = rest + (chunk as Buffer).toString('latin1');
      for (const [, hex] of text.matchAll(/sha256:([0-9a-f]{64})/g)) if (hex !== undefined) onNamed(hex);
      rest = text.slice(-nameLength + 1);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

const nameLength = 'sha256:'.length + 64;
