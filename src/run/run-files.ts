import { writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { RunnerError, messageOf } from '../errors.ts';
import { takeCandidate } from '../workspace/changes/candidate.ts';
import { encodeChangeSet } from '../workspace/manifest.ts';
import { restoreSnapshot, takeSnapshot, type SnapshotOptions } from '../workspace/snapshot.ts';
import { collectedData, sizeOf } from './entries.ts';
import { exportDocument, holdBack, type Exported } from './export.ts';
import { FileAttribution } from './file-attribution.ts';
import type { RunParts } from './run-parts.ts';
import type { RunSnapshot } from './snapshot.ts';

/** What the files of a run have become: taken, kept in its directory, and on record. For while nothing runs in it. */
export class RunFiles {
  readonly attribution: FileAttribution;
  readonly #parts: RunParts;

  constructor(parts: RunParts) {
    this.#parts = parts;
    this.attribution = new FileAttribution(parts);
  }

  /** With `ask`, people are asked for what waits for them. */
  async collect(ask = false): Promise<Exported> {
    const { sandbox, base, scope, blobs, dir, policy, journal, gate, approvals, placement } = this.#parts;
    const taken = await takeCandidate(sandbox, base, scope, blobs, {
      ...placement.looking(dir),
      snapshotRepository: policy.policy.files.git,
    });
    await this.attribution.settle(taken.changeSet.changes);
    const asked = { approvals, run: dir.id, policy: policy.digest };
    const candidate = await holdBack(taken, { gate, base, blobs }, ask ? asked : undefined);
    try {
      await Promise.all([
        write(dir.changeSet, encodeChangeSet(candidate.changeSet)),
        write(dir.patch, candidate.patch.bytes),
        write(join(dir.path, 'diff.json'), `${JSON.stringify(exportDocument(candidate, policy.digest))}\n`),
      ]);
    } catch (cause) {
      const message = `the diff of run ${dir.id} cannot be kept in ${dir.path}: ${messageOf(cause)}`;
      throw new RunnerError('data_dir_unusable', message, { cause });
    }
    await journal.append({ type: 'workspace.collected', data: collectedData(candidate) });
    return candidate;
  }

  async snapshot(options: SnapshotOptions): Promise<RunSnapshot> {
    const { sandbox, base, scope, blobs, dir, journal, image, policy, placement, contexts } = this.#parts;
    const looking = placement.looking(dir);
    const snapshot = await takeSnapshot(sandbox, base, scope, blobs, { ...options, ...looking });
    await this.attribution.settle(snapshot.changeSet.changes);
    const { digest, scratch } = snapshot;
    await journal.append({ type: 'snapshot.taken', data: { digest, scratch, ...sizeOf(snapshot) } });
    return { ...snapshot, run: dir.id, policy, image, worker: contexts.worker };
  }

  async restore(snapshot: RunSnapshot): Promise<void> {
    const { sandbox, base, scope, blobs, dir, journal, placement } = this.#parts;
    if (snapshot.base.digest !== base.digest || snapshot.base.scopeDigest !== base.scopeDigest)
      throw new RunnerError(
        'invalid_request',
        `the snapshot of run ${snapshot.run} has another base than run ${dir.id}; open a fork of it instead`,
      );
    await this.attribution.beforeRestore();
    const data = { run: snapshot.run, digest: snapshot.digest, ...sizeOf(snapshot) };
    await journal.append({ type: 'snapshot.applied', data });
    await restoreSnapshot(sandbox, { ...snapshot, base }, scope, blobs, placement.looking(dir));
    await this.attribution.restored(snapshot.changeSet.changes);
  }
}

/** A trip through the thread pool costs more than a few bytes do. */
async function write(file: string, content: string | Uint8Array): Promise<void> {
  if (content.length <= atOnceMax) writeFileSync(file, content);
  else await writeFile(file, content);
}

const atOnceMax = 256 * 1024;
