import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SnapshotView } from '../contract/run-view.ts';
import { recordIdsIn } from '../data-dir/names-in.ts';
import { writeWhole } from '../data-dir/write-whole.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { idPattern, newId } from '../ids.ts';
import type { RunSnapshot } from '../runner.ts';
import { encodeTaken, parseTaken } from '../run/snapshot.ts';
import type { OpenedRun } from './run-views.ts';

/** Of a run. */
const snapshotsMax = 64;

/**
 * The snapshots of a run that is open, in its directory: a line that says what one is, then its change set. Promises:
 *  - one that was answered is there for the service after this one too, until the run is closed;
 *  - the contents that one names are kept as long as it is (`src/retention/` reads its file);
 *  - one whose change set is not what it says is refused (`data_dir_unusable`), never laid over a workspace.
 */
export class KeptSnapshots {
  readonly #run: OpenedRun;
  readonly #directory: string;
  #taking = 0;

  constructor(run: OpenedRun) {
    this.#run = run;
    this.#directory = run.dir.snapshotsDir;
  }

  /** Throws `limit_exceeded` before anything is taken, `data_dir_unusable`, and what `take` throws. */
  async keep(take: () => Promise<RunSnapshot>, takenAt: string): Promise<SnapshotView> {
    const ids = await recordIdsIn(this.#directory);
    if (ids.length + this.#taking >= snapshotsMax) {
      const message = `run ${this.#run.id} has ${snapshotsMax} snapshots, and takes no more; open a fork and go on there`;
      throw new RunnerError('limit_exceeded', message);
    }
    this.#taking += 1;
    try {
      const { digest, scratch, changeSet } = await take();
      const view = { id: newId(), run: this.#run.id, digest, scratch, changes: changeSet.changes.size, takenAt };
      await this.#write(view, encodeTaken({ changeSet }));
      return view;
    } finally {
      this.#taking -= 1;
    }
  }

  /** Oldest first. */
  async list(): Promise<readonly SnapshotView[]> {
    return Promise.all((await recordIdsIn(this.#directory)).map(async (id) => viewOf(await this.#read(id))));
  }

  /** Throws `not_found`. */
  async get(id: string): Promise<RunSnapshot> {
    const { policy, image, base, worker } = this.#run;
    const text = await this.#read(id);
    try {
      const { run, digest, scratch } = viewOf(text);
      if (run !== this.#run.id) throw new Error(`it is of run ${run}`);
      return { run, policy, image, base, scratch, worker, ...parseTaken(text.slice(text.indexOf('\n') + 1), digest) };
    } catch (cause) {
      const message = `snapshot ${id} of run ${this.#run.id} cannot be used: ${messageOf(cause)}; take another one`;
      throw new RunnerError('data_dir_unusable', message, { cause });
    }
  }

  async #read(id: string): Promise<string> {
    const found = idPattern.test(id) ? await readFile(this.#file(id), 'utf8').catch(ignoreMissing) : undefined;
    if (found !== undefined) return found;
    throw new RunnerError(
      'not_found',
      `run ${this.#run.id} has no snapshot ${JSON.stringify(id.slice(0, 64))}; take one`,
    );
  }

  async #write(view: SnapshotView, changeSet: string): Promise<void> {
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      await writeWhole(this.#file(view.id), `${JSON.stringify(view)}\n${changeSet}`);
    } catch (cause) {
      const message = `the snapshot of run ${this.#run.id} cannot be kept in ${this.#directory}: ${messageOf(cause)}; make room there, then take it again`;
      throw new RunnerError('data_dir_unusable', message, { cause });
    }
  }

  #file(id: string): string {
    return join(this.#directory, `${id}.json`);
  }
}

function viewOf(text: string): SnapshotView {
  return JSON.parse(text.slice(0, text.indexOf('\n'))) as SnapshotView;
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
