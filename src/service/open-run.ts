import type { RunDir } from '../data-dir/data-dir.ts';
import type { RunRow } from '../store/runs.ts';
import { KeptSnapshots } from './kept-snapshots.ts';
import type { OpenedRun } from './run-views.ts';

/** One run that is open in this process, and what the service remembers of it. */
export class OpenRun {
  readonly run: OpenedRun;
  readonly row: RunRow;
  /** Identities that are on record as taking part. */
  readonly callers = new Set<string>();
  /** Calls that were asked for here, so that each is told of once. */
  readonly seen = new Map<string, { readonly beganMs: number; ended: boolean }>();
  readonly snapshots: KeptSnapshots;
  /** Calls whose answer has not left yet. */
  running = 0;
  closing: Promise<void> | undefined;

  constructor(run: OpenedRun, row: RunRow) {
    this.run = run;
    this.row = row;
    this.snapshots = new KeptSnapshots(run);
  }
}

/** One that was found for who asks, whether or not it is still open. */
export interface KnownRun {
  readonly dir: RunDir;
  readonly open: OpenRun | undefined;
}
