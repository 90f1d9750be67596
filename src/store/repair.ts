import { constants, existsSync } from 'node:fs';
import { copyFile, rename, rm } from 'node:fs/promises';
import Libsql from 'libsql';
import type { DataDir } from '../data-dir/data-dir.ts';
import { messageOf, RunnerError } from '../errors.ts';
import type { Row } from './database.ts';
import { isKeyRow } from './keys.ts';
import { syncRuns, type Synced } from './rebuild.ts';
import { Store, storeFile } from './store.ts';

export interface Repaired extends Synced {
  /** Where the damaged file lies now; undefined when there was none. */
  readonly kept: string | undefined;
  /** Rows that could still be read of what is nowhere else. */
  readonly salvaged: Readonly<Record<string, number>>;
  /** Tables of which the rest could not be read. */
  readonly lost: readonly string[];
}

/** What no journal has. In an order in which what refers to a run comes after it. */
const salvagedTables = ['keys', 'teams', 'callers', 'open_requests', 'verdicts'] as const;

/**
 * A new `state.db` in the place of a damaged or missing one: its runs from their journals, its keys and what else can still be read
 * from the old file, of which a copy stays beside it. Only while nobody else uses the data directory. Until the last step, which is
 * a rename, the old file is where it was.
 */
export async function repairStore(dataDir: DataDir, nowMs: number = Date.now()): Promise<Repaired> {
  const file = storeFile(dataDir.path);
  const draft = `${file}.new`;
  for (const suffix of suffixes) await rm(`${draft}${suffix}`, { force: true });
  const kept = existsSync(file) ? await keepCopy(file, nowMs) : undefined;
  const store = Store.openFile(draft);
  try {
    const synced = await syncRuns(store, dataDir);
    const { salvaged, lost } = kept === undefined ? { salvaged: {}, lost: [] } : salvage(store, kept);
    const whole = `${draft}-whole`;
    await rm(whole, { force: true });
    store.copyTo(whole);
    for (const suffix of suffixes.slice(1)) await rm(`${file}${suffix}`, { force: true });
    await rename(whole, file);
    return { ...synced, kept, salvaged, lost };
  } finally {
    store.close();
    for (const suffix of suffixes) await rm(`${draft}${suffix}`, { force: true });
  }
}

const suffixes = ['', '-wal', '-shm'];

async function keepCopy(file: string, nowMs: number): Promise<string> {
  const kept = `${file}.damaged-${new Date(nowMs).toISOString().replaceAll(/[:.]/g, '-')}`;
  for (const suffix of suffixes) {
    await copyFile(`${file}${suffix}`, `${kept}${suffix}`, constants.COPYFILE_EXCL).catch((cause: unknown) => {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw new RunnerError('data_dir_unusable', `${file} cannot be put aside: ${messageOf(cause)}`, { cause });
    });
  }
  return kept;
}

/** Row by row, as far as it goes. */
function salvage(store: Store, file: string): Pick<Repaired, 'salvaged' | 'lost'> {
  const salvaged: Record<string, number> = {};
  const lost: string[] = [];
  let old: Libsql.Database;
  try {
    old = new Libsql(file);
  } catch {
    return { salvaged, lost: [...salvagedTables] };
  }
  for (const table of salvagedTables) {
    salvaged[table] = 0;
    try {
      for (const row of old.prepare(`SELECT * FROM ${table}`).iterate([]))
        if (isSound(table, row as Row) && store.adopt(table, row as Row)) salvaged[table]++;
    } catch {
      lost.push(table);
    }
  }
  old.close();
  return { salvaged, lost };
}

/** A key that cannot be read would be in the way of all others. */
function isSound(table: string, row: Row): boolean {
  return table !== 'keys' || isKeyRow(row);
}
