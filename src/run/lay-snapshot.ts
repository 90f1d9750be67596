import { writeFile } from 'node:fs/promises';
import type { RunDir } from '../data-dir/data-dir.ts';
import type { Journal } from '../journal/writer.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import type { BlobStore } from '../workspace/blobs.ts';
import type { Base } from '../workspace/base/import.ts';
import { toUnpackItems } from '../workspace/snapshot.ts';
import { sizeOf } from './entries.ts';
import { encodeTaken, type RunSnapshot } from './snapshot.ts';

export interface Under {
  readonly dir: RunDir;
  readonly base: Base;
  readonly sandbox: Sandbox;
  readonly journal: Journal;
  readonly blobs: BlobStore;
}

/** Lays what a fork begins with over its base, and keeps it: of a source that goes on it is not to be had any more. */
export async function laySnapshot(snapshot: RunSnapshot, { dir, base, sandbox, journal, blobs }: Under): Promise<void> {
  const { run, digest, changeSet } = snapshot;
  await journal.append({ type: 'snapshot.applied', data: { run, digest, ...sizeOf(snapshot) } });
  await Promise.all([
    sandbox.files.unpack('.', toUnpackItems(base.tree, changeSet, blobs), { owners: true }),
    // Without it the fork cannot be replayed, and says so; nothing else misses it.
    writeFile(dir.beganWith, encodeTaken(snapshot), { mode: 0o600 }).catch(() => undefined),
  ]);
}
