import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { listBuildRecords } from '../data-dir/build-records.ts';
import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import { messageOf } from '../errors.ts';
import { checkJournal } from '../journal/check.ts';
import { readEnds, type JournalEnds } from '../journal/ends.ts';
import { WriterLock } from '../journal/lock.ts';

/** Something whose time is over. */
export interface Removal {
  /**
   * `output`: what calls asked, printed and were answered; `diff`: change set, patch and base; `run`: all of it, with journal, policy and
   * approvals; `build`: the record of an environment's setup.
   */
  readonly kind: 'output' | 'diff' | 'run' | 'build';
  /** Of the run, or `<environment>.<id>` of the build. */
  readonly id: string;
  /** Absolute. */
  readonly paths: readonly string[];
  readonly bytes: number;
  readonly reason: string;
}

export interface RetentionPlan {
  readonly removals: readonly Removal[];
  /** Whose time is over, and which stay all the same. */
  readonly kept: readonly { readonly id: string; readonly reason: string }[];
  /** When the oldest run that is still open was opened, by the wall clock. */
  readonly oldestOpenMs: number | undefined;
}

/**
 * What each run's own policy no longer wants kept, counted from when the run was closed. Reads only. Promises:
 *  - a run that is open, or whose journal somebody writes, is never in it;
 *  - neither is one whose journal is not what was written: that is evidence;
 *  - what a policy of before says nothing of is kept as long as `retention` says where it is left out.
 */
export async function planRetention(dataDir: DataDir, nowMs: number): Promise<RetentionPlan> {
  const removals: Removal[] = [];
  const kept: { id: string; reason: string }[] = [];
  let oldestOpenMs: number | undefined;
  for (const dir of await dataDir.listRuns()) {
    try {
      const ends = await readEnds(dir.journal);
      if (ends === undefined || ends.closed === undefined) {
        const openedMs = ends === undefined ? await dir.touchedMs() : Date.parse(ends.openedAt);
        oldestOpenMs = Math.min(oldestOpenMs ?? openedMs, openedMs);
        continue;
      }
      const due = await dueOf(dir, ends, nowMs);
      const refusal = due.length === 0 ? undefined : await whyKept(dir.journal);
      if (refusal === undefined) removals.push(...due);
      else kept.push({ id: dir.id, reason: refusal });
    } catch (error) {
      kept.push({ id: dir.id, reason: messageOf(error) });
    }
  }
  for (const record of await listBuildRecords(dataDir.path)) {
    const found = await dueBuild(record, nowMs).catch(() => undefined); // one that cannot be read is evidence too
    if (found !== undefined) removals.push(found);
  }
  return { removals, kept, oldestOpenMs };
}

const dayMs = 86_400_000;
const standard = { journalMs: 400 * dayMs, outputMs: 30 * dayMs, diffMs: 90 * dayMs };
const Retention = z.object({
  retention: z.object({
    journalMs: z.number().nonnegative(),
    outputMs: z.number().nonnegative(),
    diffMs: z.number().nonnegative(),
  }),
});

async function dueOf(dir: RunDir, ends: JournalEnds, nowMs: number): Promise<readonly Removal[]> {
  const said = Retention.safeParse(ends.opened.policy.effective);
  const { journalMs, outputMs, diffMs } = said.success ? said.data.retention : standard;
  const agoMs = nowMs - Date.parse(ends.closedAt ?? '');
  const reason = (keptMs: number): string =>
    `closed ${daysText(agoMs)} ago; its policy keeps this for ${daysText(keptMs)}`;
  if (agoMs > journalMs) return [await removal('run', dir.id, [dir.path], reason(journalMs))];
  const due: Removal[] = [];
  if (agoMs > outputMs)
    due.push(await removal('output', dir.id, [dir.callsDir, dir.answers, dir.arguments], reason(outputMs)));
  const diffs = [dir.changeSet, dir.patch, dir.base, dir.beganWith, dir.contents, join(dir.path, 'diff.json')];
  if (agoMs > diffMs) due.push(await removal('diff', dir.id, diffs, reason(diffMs)));
  return due.filter(({ paths }) => paths.length > 0);
}

async function dueBuild(
  { name, id, path }: { name: string; id: string; path: string },
  nowMs: number,
): Promise<Removal | undefined> {
  const ends = await readEnds(path);
  if (ends?.closedAt === undefined) return undefined;
  const agoMs = nowMs - Date.parse(ends.closedAt);
  if (!(agoMs > standard.journalMs) || (await whyKept(path)) !== undefined) return undefined;
  const reason = `built ${daysText(agoMs)} ago; records of builds are kept for ${daysText(standard.journalMs)}`;
  return removal('build', `${name}.${id}`, [path], reason);
}

async function whyKept(journal: string): Promise<string | undefined> {
  if (await WriterLock.isHeld(journal)) return 'somebody writes its journal';
  const { verdict } = await checkJournal(journal);
  return verdict === 'closed' ? undefined : 'its journal is not what was written, so all of it stays: glovebox check';
}

/** Of what there is of these paths. */
async function removal(kind: Removal['kind'], id: string, paths: readonly string[], reason: string): Promise<Removal> {
  const sizes = await Promise.all(paths.map(bytesUnder));
  const there = paths.filter((_, index) => sizes[index] !== undefined);
  return { kind, id, paths: there, bytes: sizes.reduce<number>((sum, bytes) => sum + (bytes ?? 0), 0), reason };
}

/** Undefined where there is nothing; an empty directory is as good as nothing. */
async function bytesUnder(path: string): Promise<number | undefined> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return undefined;
  if (!found.isDirectory()) return found.size;
  const names = await readdir(path);
  const sizes = await Promise.all(names.map((name) => bytesUnder(join(path, name))));
  return names.length === 0 ? undefined : sizes.reduce<number>((sum, bytes) => sum + (bytes ?? 0), 0);
}

function daysText(ms: number): string {
  return ms >= dayMs ? `${Math.floor(ms / dayMs)} d` : `${Math.floor(ms / 3_600_000)} h`;
}
