import { join } from 'node:path';
import { namesIn } from './names-in.ts';

/** The journal of one build of an environment: `environments/<name>.<id>.ndjson` in the data directory. */
export interface BuildRecordFile {
  /** Of the environment. */
  readonly name: string;
  /** Of the build; sorts by its beginning. */
  readonly id: string;
  readonly path: string;
}

export function buildRecord(dataDir: string, name: string, id: string): BuildRecordFile {
  return { name, id, path: join(dataDir, 'environments', `${name}.${id}.ndjson`) };
}

/** Newest first. */
export async function listBuildRecords(dataDir: string): Promise<readonly BuildRecordFile[]> {
  const files = await namesIn(join(dataDir, 'environments'));
  return files
    .flatMap((file) => {
      const [, name, id] = /^(env-[0-9a-f]{16})\.([0-9a-z]{26})\.ndjson$/.exec(file) ?? [];
      return name === undefined || id === undefined ? [] : [buildRecord(dataDir, name, id)];
    })
    .sort((a, b) => (a.id < b.id ? 1 : -1));
}
