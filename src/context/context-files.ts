import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunDir } from '../data-dir/data-dir.ts';
import { writeWhole } from '../data-dir/write-whole.ts';
import type { Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { parseEncodedContext, type ContextSnapshot } from './context-snapshot.ts';

/** Of one run. What is beyond it goes on in a fork. */
export const contextsMax = 1_000;
export const contextsBytesMax = 16 * 1024 ** 2;

type Of = Pick<RunDir, 'id' | 'contextDir'>;

/** Where a snapshot lies: `context/<64 hex digits>.json`. */
export function contextFile({ contextDir }: Of, digest: Digest): string {
  return join(contextDir, `${digest.slice('sha256:'.length)}.json`);
}

/** On the disk once this resolves. The same one twice is one file. Throws `data_dir_unusable`. */
export async function keepContext(dir: Of, digest: Digest, text: string): Promise<void> {
  try {
    await mkdir(dir.contextDir, { recursive: true, mode: 0o700 });
    await writeWhole(contextFile(dir, digest), text);
  } catch (cause) {
    const message = `the context snapshot of run ${dir.id} cannot be kept in ${dir.contextDir}: ${messageOf(cause)}; make room there, then attach it again`;
    throw new RunnerError('data_dir_unusable', message, { cause });
  }
}

/** Undefined: retention has taken it. `data_dir_unusable`: it is not what was attached. */
export async function findContext(dir: Of, digest: Digest): Promise<ContextSnapshot | undefined> {
  const file = contextFile(dir, digest);
  try {
    return parseEncodedContext(await readFile(file, 'utf8'), digest);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined;
    const message = `the context snapshot ${digest} of run ${dir.id} cannot be read: ${messageOf(cause)}; ${file} is not what was attached`;
    throw new RunnerError('data_dir_unusable', message, { cause });
  }
}
