import { existsSync } from 'node:fs';
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { z } from 'zod';
import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import { idPattern } from '../ids.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { Store, storeFile } from '../store/store.ts';
import { Copier } from './copy.ts';

/** `backup.json`: that a directory is a backup, whole, and of what. */
export const BackupRecord = z.strictObject({
  format: z.literal('glovebox.backup/v1'),
  /** Wall clock, when it was begun. */
  at: z.iso.datetime(),
  /** Id of the data directory. */
  owner: z.string().regex(idPattern),
  runs: z.int().nonnegative(),
  files: z.int().nonnegative(),
  bytes: z.int().nonnegative(),
  /** Whether what commands printed and calls were answered is in it. */
  outputs: z.boolean(),
});
export type BackupRecord = z.infer<typeof BackupRecord>;

export const backupFile = 'backup.json';
/** As `src/bundle/believed-keys.ts` reads them. */
const believedKeysDir = 'believed-keys';

/** Of the key that a data directory signs with. */
export interface PublicHalf {
  readonly id: string;
  readonly publicPem: string;
}

/**
 * A copy of a data directory, made while it is in use. Promises:
 *  - the target is there whole, or not at all: it is made beside and renamed;
 *  - of the database, one moment (a transaction of its own); of each run, its journal as far as it had come, with everything that
 *    this journal speaks of;
 *  - it is for its owner alone, as the data directory is.
 *  - what was signed here before stays believed where it is restored: the public half of the key is in it, the private one never.
 * Not in it: sandboxes and their workspaces while they are open, imported bases, instances, locks: they are of this machine, and of now.
 */
export async function backUp(
  dataDir: DataDir,
  target: string,
  options: { outputs?: boolean; now?: number; signedWith?: PublicHalf } = {},
): Promise<BackupRecord> {
  const { outputs = true, now = Date.now(), signedWith } = options;
  const to = resolve(target);
  if (existsSync(to))
    throw new RunnerError('invalid_request', `${to} is there already; a backup is a directory of its own`);
  const partial = `${to}.partial`;
  try {
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial, { recursive: true, mode: 0o700 });
    copyDatabase(dataDir, partial);
    const copier = new Copier();
    const runs = await copyRuns(dataDir, partial, copier, outputs);
    await copier.tree(join(dataDir.path, 'environments'), join(partial, 'environments'), (name) =>
      name.startsWith('.'),
    );
    // Records of people and promotions: whole files; what is half written, or a lock, has another name.
    for (const name of ['reviews', 'promotions'])
      await copier.tree(
        join(dataDir.path, name),
        join(partial, name),
        (entry, depth) => depth > 0 && !entry.endsWith('.json'),
      );
    await copier.tree(
      join(dataDir.path, believedKeysDir),
      join(partial, believedKeysDir),
      (name) => !name.endsWith('.pem'),
    );
    if (signedWith !== undefined)
      await writeFile(join(partial, believedKeysDir, `${signedWith.id}.pem`), signedWith.publicPem, { mode: 0o600 });
    for (const name of ['owner', 'images.json']) await copier.file(join(dataDir.path, name), join(partial, name));
    // After the runs: whatever these name has been there before.
    await copier.tree(dataDir.blobsDir, join(partial, 'blobs'), (name) => name === 'partial');
    const at = new Date(now).toISOString();
    const record: BackupRecord = {
      format: 'glovebox.backup/v1',
      at,
      owner: dataDir.owner,
      runs,
      ...copier.counts,
      outputs,
    };
    await writeFile(join(partial, backupFile), `${JSON.stringify(record, undefined, 2)}\n`, { mode: 0o600 });
    await rename(partial, to);
    return record;
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => undefined); // why it failed is what counts
    if (error instanceof RunnerError) throw error;
    const message = `the backup of ${dataDir.path} to ${to} failed: ${messageOf(error)}; is there room?`;
    throw new RunnerError('data_dir_unusable', message, { cause: error });
  }
}

/** First: what is only in it is what a backup is for. */
function copyDatabase(dataDir: DataDir, to: string): void {
  if (!existsSync(storeFile(dataDir.path))) return;
  const store = Store.open(dataDir.path);
  try {
    store.copyTo(storeFile(to));
  } finally {
    store.close();
  }
}

async function copyRuns(dataDir: DataDir, to: string, copier: Copier, outputs: boolean): Promise<number> {
  let runs = 0;
  for (const dir of await dataDir.listRuns()) if (await copyRun(dir, join(to, 'runs', dir.id), copier, outputs)) runs++;
  return runs;
}

/** The journal first: of what it speaks, the rest is there already. False when the run goes meanwhile. */
async function copyRun(dir: RunDir, to: string, copier: Copier, outputs: boolean): Promise<boolean> {
  await mkdir(join(to, 'calls'), { recursive: true, mode: 0o700 });
  const journal = join(to, 'journal.ndjson');
  // One without a first entry is of a run that has not begun.
  if (!(await copier.file(dir.journal, journal)) || (await stat(journal)).size === 0) {
    await rm(to, { recursive: true });
    return false;
  }
  // What is kept for the next runner holds the key of an authority; it is of no use without the sandbox.
  const left = new Set([
    'journal.ndjson',
    'layer',
    basename(dir.kept),
    basename(dir.sessionsDir),
    `${basename(dir.kept)}.new`,
    ...(outputs ? [] : ['calls', 'answers.ndjson', 'arguments.ndjson', 'contents.pack']),
  ]);
  await copier.tree(
    dir.path,
    to,
    (name, depth) => (depth === 0 && left.has(name)) || name.startsWith('journal.ndjson.lock.'),
  );
  if (existsSync(dir.journal)) return true;
  await rm(to, { recursive: true });
  return false;
}
