import type { RunDir } from '../data-dir/data-dir.ts';
import type { Digest } from '../digest.ts';
import type { EntryData } from '../journal/entry.ts';
import { readEntries } from '../journal/read.ts';
import type { Fingerprint } from './fingerprint.ts';
import { readFingerprint } from './fingerprint-files.ts';

/** One that is on record. */
export interface RecordedFingerprint {
  readonly at: EntryData<'environment.fingerprint'>['at'];
  /** By which it is kept. */
  readonly document: Digest;
  readonly fingerprint: Fingerprint;
}

/** The newest that the journal of a run names; undefined where none was taken. Throws `journal_broken` for one that was changed. */
export async function findNewestFingerprint(dir: RunDir): Promise<RecordedFingerprint | undefined> {
  let newest: EntryData<'environment.fingerprint'> | undefined;
  for await (const entry of readEntries(dir.journal)) if (entry.type === 'environment.fingerprint') newest = entry.data;
  if (newest === undefined) return undefined;
  const { at, document } = newest;
  return { at, document, fingerprint: await readFingerprint(dir, document) };
}
