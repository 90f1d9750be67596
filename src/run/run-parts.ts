import type { Approvals } from '../approvals/approvals.ts';
import type { Budget } from '../budget/budget.ts';
import type { RunDir } from '../data-dir/data-dir.ts';
import type { Fence } from '../egress/fence.ts';
import type { Journal } from '../journal/writer.ts';
import type { Placement } from '../placement.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import type { RunImage } from './snapshot.ts';
import type { RunControl } from './control.ts';
import type { RunGate } from './gate.ts';
import type { BlobStore } from '../workspace/blobs.ts';
import type { Base } from '../workspace/base/import.ts';
import type { Scope } from '../workspace/scope/scope.ts';

/** What a run is made of; `Runner.open` puts it together. */
export interface RunParts {
  readonly dir: RunDir;
  readonly policy: LoadedPolicy;
  readonly image: RunImage;
  readonly sandbox: Sandbox;
  readonly journal: Journal;
  readonly budget: Budget;
  readonly gate: RunGate;
  readonly approvals: Approvals;
  /** After so long a call that waits for people answers that it waits. */
  readonly waitingAfterMs: number;
  readonly scope: Scope;
  readonly base: Base;
  readonly blobs: BlobStore;
  readonly placement: Placement;
  /** Absent where the policy lets nothing out. */
  readonly fence?: Fence | undefined;
  readonly control: RunControl;
}
