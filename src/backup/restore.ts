import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { DataDir } from '../data-dir/data-dir.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { checkJournal } from '../journal/check.ts';
import { syncRuns } from '../store/rebuild.ts';
import { Store } from '../store/store.ts';
import { backupFile, BackupRecord } from './backup.ts';
import { Copier } from './copy.ts';

/** What a backup turned out to hold. */
export interface Restored {
  readonly record: BackupRecord;
  readonly dataDir: string;
  readonly runs: number;
  /** Live ones: neither expired nor revoked. */
  readonly keys: number;
  /** Runs whose journals are not what was written, or cannot be read. */
  readonly broken: readonly { readonly id: string; readonly reason: string }[];
  /** Contents that are not what their name says; they are left out. */
  readonly damaged: readonly string[];
}

/**
 * A data directory out of a backup, which stays as it is. Promises:
 *  - the target is there whole and checked, or not at all;
 *  - keys that were revoked when the backup was made still are; every journal is checked, every content hashed.
 * Runs that were open then are taken up or closed as lost by the next `glovebox gc` or service, as after a crash.
 */
export async function restore(backup: string, target: string): Promise<Restored> {
  const [from, to] = [resolve(backup), resolve(target)];
  const record = await readRecord(from);
  if (existsSync(to) && (await readdir(to)).length > 0)
    throw new RunnerError('invalid_request', `${to} is not empty; a backup is restored into a directory of its own`);
  const partial = `${to}.partial`;
  try {
    await rm(partial, { recursive: true, force: true });
    await mkdir(dirname(to), { recursive: true });
    await new Copier().tree(from, partial, (name, depth) => depth === 0 && name === backupFile);
    const damaged = await dropDamaged(join(partial, 'blobs', 'sha256'));
    const { runs, broken } = await checkRuns(partial);
    const keys = await bringInLine(partial);
    await rename(partial, to);
    return { record, dataDir: to, runs, keys, broken, damaged };
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => undefined); // why it failed is what counts
    if (error instanceof RunnerError) throw error;
    const message = `${from} could not be restored to ${to}: ${messageOf(error)}; is there room?`;
    throw new RunnerError('data_dir_unusable', message, { cause: error });
  }
}

async function readRecord(from: string): Promise<BackupRecord> {
  try {
    return BackupRecord.parse(JSON.parse(await readFile(join(from, backupFile), 'utf8')));
  } catch (cause) {
    const message = `${from} is not a whole backup: ${messageOf(cause).slice(0, 200)}; glovebox backup DIR makes one`;
    throw new RunnerError('invalid_request', message, { cause });
  }
}

async function dropDamaged(blobs: string): Promise<readonly string[]> {
  const damaged: string[] = [];
  for (const first of await readdir(blobs).catch(() => [])) {
    for (const rest of await readdir(join(blobs, first))) {
      const hash = createHash('sha256');
      for await (const piece of createReadStream(join(blobs, first, rest))) hash.update(piece as Buffer);
      if (hash.digest('hex') === first + rest) continue;
      damaged.push(first + rest);
      await rm(join(blobs, first, rest), { force: true });
    }
  }
  return damaged;
}

async function checkRuns(dir: string): Promise<Pick<Restored, 'runs' | 'broken'>> {
  const broken: { id: string; reason: string }[] = [];
  const ids = await readdir(join(dir, 'runs')).catch(() => []);
  for (const id of ids) {
    try {
      const { findings } = await checkJournal(join(dir, 'runs', id, 'journal.ndjson'));
      const [first] = findings;
      if (first !== undefined) broken.push({ id, reason: `line ${first.line}: ${first.message}` });
    } catch (error) {
      broken.push({ id, reason: messageOf(error) });
    }
  }
  return { runs: ids.length, broken };
}

/** How many keys work. */
async function bringInLine(dir: string): Promise<number> {
  const dataDir = await DataDir.open(dir);
  const store = Store.open(dir);
  try {
    await syncRuns(store, dataDir);
    return store.keys.list().filter(({ id }) => store.keys.isLive(id)).length;
  } finally {
    store.close();
  }
}
