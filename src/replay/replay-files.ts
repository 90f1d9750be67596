import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunDir } from '../data-dir/data-dir.ts';
import { writeWhole } from '../data-dir/write-whole.ts';
import { digestOf, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { encodeReplay, ReplayRecord } from './replay-record.ts';

export interface KeptReplay {
  readonly record: ReplayRecord;
  readonly digest: Digest;
}

/** As `<digest>.json`, whole or not at all. Throws `data_dir_unusable`. */
export async function writeReplay(dir: RunDir, record: ReplayRecord): Promise<KeptReplay> {
  const text = encodeReplay(ReplayRecord.parse(record));
  const digest = digestOf(text);
  const file = fileOf(dir, digest);
  try {
    await mkdir(dir.replaysDir, { recursive: true, mode: 0o700 });
    await writeWhole(file, text);
  } catch (cause) {
    const message = `the replay of run ${dir.id} cannot be kept as ${file}: ${messageOf(cause)}; make room there, then replay it again`;
    throw new RunnerError('data_dir_unusable', message, { cause });
  }
  return { record, digest };
}

/**
 * The newest of a run, which is the one that holds; undefined where it was never replayed. Any that is not what was written is
 * `journal_broken`: an older and better one never takes its place.
 */
export async function findReplay(dir: RunDir): Promise<KeptReplay | undefined> {
  return (await listReplays(dir)).at(-1);
}

/** The oldest first. */
async function listReplays(dir: RunDir): Promise<readonly KeptReplay[]> {
  const names = await readdir(dir.replaysDir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const found = names.flatMap((name) => /^([0-9a-f]{64})\.json$/.exec(name)?.[1] ?? []);
  const kept = await Promise.all(found.map((hex) => readReplay(dir, `sha256:${hex}`)));
  return kept.sort((a, b) => (a.record.id < b.record.id ? -1 : 1));
}

async function readReplay(dir: RunDir, digest: Digest): Promise<KeptReplay> {
  try {
    const text = await readFile(fileOf(dir, digest), 'utf8');
    if (digestOf(text) !== digest) throw new Error(`it is ${digestOf(text)}`);
    const record = ReplayRecord.parse(JSON.parse(text));
    if (encodeReplay(record) !== text) throw new Error('it is not in its one canonical form');
    if (record.run !== dir.id) throw new Error(`it is of run ${record.run}`);
    return { record, digest };
  } catch (cause) {
    const message = `the replay ${digest} of run ${dir.id} is not what was written there: ${messageOf(cause).slice(0, 300)}; remove ${fileOf(dir, digest)}, then replay the run again`;
    throw new RunnerError('journal_broken', message, { cause });
  }
}

function fileOf(dir: RunDir, digest: Digest): string {
  return join(dir.replaysDir, `${digest.slice('sha256:'.length)}.json`);
}
