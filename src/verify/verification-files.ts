import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunDir } from '../data-dir/data-dir.ts';
import { recordIdsIn } from '../data-dir/names-in.ts';
import { writeWhole } from '../data-dir/write-whole.ts';
import type { Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { digestOfVerification, encodeVerification, Verification } from './verification.ts';

export interface KeptVerification {
  readonly verification: Verification;
  readonly digest: Digest;
}

/** Whole or not at all, also when the power goes. Throws `data_dir_unusable`. */
export async function writeVerification(dir: RunDir, verification: Verification): Promise<KeptVerification> {
  const file = join(dir.verificationsDir, `${verification.id}.json`);
  try {
    await mkdir(dir.verificationsDir, { recursive: true, mode: 0o700 });
    await writeWhole(file, encodeVerification(Verification.parse(verification)));
  } catch (cause) {
    const message = `the verification of run ${dir.id} cannot be kept as ${file}: ${messageOf(cause)}; make room there, then verify again`;
    throw new RunnerError('data_dir_unusable', message, { cause });
  }
  return { verification, digest: digestOfVerification(verification) };
}

/**
 * The newest of a run, which is the one that holds; undefined where it was never verified. One that is there and is not what was
 * written is `journal_broken`: an older and better one never takes its place.
 */
export async function findVerification(dir: RunDir): Promise<KeptVerification | undefined> {
  const newest = (await recordIdsIn(dir.verificationsDir)).at(-1);
  return newest === undefined ? undefined : await readVerification(dir, newest);
}

/** By its id. Throws `not_found`, `journal_broken`. */
export async function getVerification(dir: RunDir, id: string): Promise<KeptVerification> {
  const ids = await recordIdsIn(dir.verificationsDir);
  if (ids.includes(id)) return readVerification(dir, id);
  throw new RunnerError('not_found', `run ${dir.id} has no verification ${id.slice(0, 64)}; see which it has`);
}

async function readVerification(dir: RunDir, id: string): Promise<KeptVerification> {
  const file = join(dir.verificationsDir, `${id}.json`);
  try {
    const text = await readFile(file, 'utf8');
    const verification = Verification.parse(JSON.parse(text));
    if (encodeVerification(verification) !== text) throw new Error('it is not in its one canonical form');
    if (verification.id !== id || verification.run !== dir.id)
      throw new Error(`it is ${verification.id} of run ${verification.run}`);
    return { verification, digest: digestOfVerification(verification) };
  } catch (cause) {
    const message = `verification ${id} of run ${dir.id} is not what was written there: ${messageOf(cause).slice(0, 300)}; verify the run again`;
    throw new RunnerError('journal_broken', message, { cause });
  }
}
