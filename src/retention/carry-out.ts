import { mkdir, rename, rm } from 'node:fs/promises';
import { basename } from 'node:path';
import type { DataDir } from '../data-dir/data-dir.ts';
import { messageOf } from '../errors.ts';
import { WriterLock } from '../journal/lock.ts';
import { BlobStore } from '../workspace/blobs.ts';
import { forEachNamed } from './named-contents.ts';
import { planRetention, type Removal, type RetentionPlan } from './plan.ts';

export interface RetentionOptions {
  /** Says what would go, and touches nothing. */
  readonly dryRun?: boolean;
  /** Wall clock: what is kept is kept for days. */
  readonly nowMs?: number;
  /** Before each removal: stops between two of them. */
  readonly signal?: AbortSignal;
  /** A run is gone, with its journal. */
  readonly onRunRemoved?: (id: string) => void;
}

/** What went, or with `dryRun` would go. */
export interface Retained extends Pick<RetentionPlan, 'kept'> {
  readonly removed: readonly Removal[];
  /** Workspaces that were uploaded and not used for a day. */
  readonly uploads: readonly string[];
  /** Contents that nothing refers to any more. */
  readonly blobs: { readonly count: number; readonly bytes: number };
  /** What could not be removed; it is tried again the next time. */
  readonly failed: readonly { readonly id: string; readonly reason: string }[];
}

/**
 * Carries retention out. Promises:
 *  - what goes is out of its place by one rename, or one unlink a file, before any of it is removed: a crash leaves it whole or
 *    gone, and what is left over of it is swept the next time;
 *  - a content goes only when no run in the data directory names it, and nobody has used it since the oldest run that is open
 *    was opened, nor for a day: so none is lost that a run is about to name;
 *  - doing it twice changes nothing.
 */
export async function carryOutRetention(dataDir: DataDir, options: RetentionOptions = {}): Promise<Retained> {
  const { dryRun = false, nowMs = Date.now(), signal } = options;
  if (!dryRun) await dataDir.sweepGraves();
  const plan = await planRetention(dataDir, nowMs);
  const removed: Removal[] = [];
  const failed: { id: string; reason: string }[] = [];
  for (const removal of plan.removals) {
    if (signal?.aborted === true) break;
    try {
      if (!dryRun && !(await remove(dataDir, removal))) continue;
      removed.push(removal);
      if (!dryRun && removal.kind === 'run') options.onRunRemoved?.(removal.id);
    } catch (error) {
      failed.push({ id: removal.id, reason: messageOf(error) });
    }
  }
  const blobs = await collectBlobs(dataDir, plan, { dryRun, nowMs, removed });
  const uploads = await dataDir.uploads.expire(nowMs, { dryRun });
  return { removed, uploads, blobs, kept: plan.kept, failed };
}

/** False when somebody writes there after all. */
async function remove(dataDir: DataDir, { kind, id, paths }: Removal): Promise<boolean> {
  if (kind === 'build') {
    for (const path of paths) await rm(path, { force: true });
    return true;
  }
  const dir = dataDir.runDir(id);
  if (await WriterLock.isHeld(dir.journal)) return false;
  if (kind === 'run') {
    await dataDir.removeRun(id);
    return true;
  }
  for (const path of paths) {
    if (path === dir.callsDir) await buryCalls(dataDir, path, id);
    else await rm(path, { force: true });
  }
  return true;
}

/** The directory itself stays: it is part of what a run is. */
async function buryCalls(dataDir: DataDir, callsDir: string, id: string): Promise<void> {
  const grave = dataDir.graveFor(`${id}-${basename(callsDir)}`);
  await rm(grave, { recursive: true, force: true });
  await rename(callsDir, grave).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error; // another sweep was faster
  });
  await mkdir(callsDir, { recursive: true, mode: 0o700 });
  await rm(grave, { recursive: true, force: true });
}

const quietMs = 86_400_000;
/** Clocks of files and journals need not agree to the millisecond. */
const slackMs = 3_600_000;

async function collectBlobs(
  dataDir: DataDir,
  { oldestOpenMs }: RetentionPlan,
  { dryRun, nowMs, removed }: { dryRun: boolean; nowMs: number; removed: readonly Removal[] },
): Promise<Retained['blobs']> {
  const sinceMs = Math.min(nowMs - quietMs, (oldestOpenMs ?? nowMs) - slackMs);
  const blobs = await BlobStore.open(dataDir.blobsDir);
  const unnamed = await blobs.unused(sinceMs);
  const gone = new Set(dryRun ? removed.flatMap(({ paths }) => paths) : []);
  if (unnamed.size > 0) await forEachNamed(dataDir, gone, (hex) => unnamed.delete(hex));
  let [count, bytes] = [0, 0];
  for (const [hex, size] of unnamed) {
    if (!dryRun && !(await blobs.removeUnused(hex, sinceMs))) continue;
    count++;
    bytes += size;
  }
  return { count, bytes };
}
