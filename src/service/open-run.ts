import { RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import type { RunSnapshot } from '../runner.ts';
import type { SnapshotView } from '../contract/run-view.ts';
import type { RunRow } from '../store/runs.ts';
import type { OpenedRun } from './run-views.ts';

interface Taken {
  readonly view: SnapshotView;
  readonly snapshot: RunSnapshot;
}

const snapshotsMax = 64;

/** One run that is open in this process, and what the service remembers of it. */
export class OpenRun {
  readonly run: OpenedRun;
  readonly row: RunRow;
  /** Identities that are on record as taking part. */
  readonly callers = new Set<string>();
  /** Calls that were asked for here, so that each is told of once. */
  readonly seen = new Map<string, { readonly beganMs: number; readonly ended: boolean }>();
  readonly #snapshots = new Map<string, Taken>();
  /** Calls whose answer has not left yet. */
  running = 0;
  closing: Promise<void> | undefined;

  constructor(run: OpenedRun, row: RunRow) {
    this.run = run;
    this.row = row;
  }

  keep(snapshot: RunSnapshot, takenAt: string): SnapshotView {
    const { digest, scratch } = snapshot;
    const id = newId();
    const view = { id, run: this.run.id, digest, scratch, changes: snapshot.changeSet.changes.size, takenAt };
    this.#snapshots.set(id, { view, snapshot });
    return view;
  }

  /** Before one is taken. Throws `limit_exceeded`. */
  refuseMoreSnapshots(): void {
    if (this.#snapshots.size < snapshotsMax) return;
    const message = `run ${this.run.id} has ${snapshotsMax} snapshots, and takes no more; open a fork and go on there`;
    throw new RunnerError('limit_exceeded', message);
  }

  get snapshots(): readonly SnapshotView[] {
    return [...this.#snapshots.values()].map(({ view }) => view);
  }

  /** Throws `not_found`. */
  snapshot(id: string): RunSnapshot {
    const taken = this.#snapshots.get(id);
    if (taken !== undefined) return taken.snapshot;
    throw new RunnerError('not_found', `run ${this.run.id} has no snapshot ${id} in this service; take one`);
  }
}
