import { readFile, stat } from 'node:fs/promises';
import type { RunDir } from '../data-dir/data-dir.ts';
import { recordIdsIn } from '../data-dir/names-in.ts';
import { isRunnerError } from '../errors.ts';
import { readEntries } from '../journal/read.ts';
import { findVerification } from '../verify/verification-files.ts';
import { FactsOfRun } from './facts.ts';
import { linesBetween, patchBytesMax } from './patch-lines.ts';
import { factsVersion, type RunFacts } from './run-facts.ts';

/**
 * The facts of a run from what lies in its directory, in memory of one entry at a time. Undefined where there is no journal, or
 * nothing whole in it yet; throws `journal_broken` for a journal or a verification that is not what was written.
 */
export async function readFacts(dir: RunDir, dirOf: (run: string) => RunDir): Promise<RunFacts | undefined> {
  const found = new FactsOfRun();
  try {
    for await (const entry of readEntries(dir.journal)) found.add(entry);
  } catch (error) {
    if (isRunnerError(error) && isMissing(error.cause)) return undefined;
    throw error;
  }
  const verification = (await findVerification(dir))?.verification;
  const { forkedFrom } = found;
  const lines = forkedFrom === undefined ? null : await linesSince(dirOf(forkedFrom), dir);
  return found.facts(verification, lines);
}

/**
 * Of all that may change of a closed run's facts: the newest verification, and of a fork the patches that are compared. A journal that
 * is closed never changes. Taken before the facts are read, so that what changes meanwhile is seen the next time.
 */
export async function stampOf(dir: RunDir, forkedFrom: string | null, dirOf: (run: string) => RunDir): Promise<string> {
  const verification = (await recordIdsIn(dir.verificationsDir)).at(-1) ?? none;
  const kept = [`facts ${factsVersion}`, verification];
  if (forkedFrom !== null) kept.push(await sizeOf(dir), await sizeOf(dirOf(forkedFrom)));
  return kept.join(' ');
}

const none = '-';

async function sizeOf({ patch }: RunDir): Promise<string> {
  return stat(patch).then(
    ({ size }) => String(size),
    () => none,
  );
}

/** null: one of the patches is not there, or too long. */
async function linesSince(before: RunDir, after: RunDir): Promise<number | null> {
  const [old, now] = [await patchOf(before), await patchOf(after)];
  return old === undefined || now === undefined ? null : linesBetween(old, now);
}

async function patchOf({ patch }: RunDir): Promise<Buffer | undefined> {
  try {
    const { size } = await stat(patch);
    return size > patchBytesMax ? undefined : await readFile(patch);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
}
