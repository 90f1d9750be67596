import type { Answers } from './answers.ts';
import type { Approvals } from '../approvals/approvals.ts';
import type { Budget } from '../budget/budget.ts';
import type { RunDir } from '../data-dir/data-dir.ts';
import type { Fence } from '../egress/fence.ts';
import type { Journal } from '../journal/writer.ts';
import type { Placement } from '../placement.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import type { RunningCall } from '../sandbox/call.ts';
import type { EndedCall } from '../sandbox/ended-call.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import type { RunFingerprints } from './fingerprints.ts';
import type { RunImage } from './snapshot.ts';
import type { AskedBefore, CallRequest } from './call-request.ts';
import type { Contexts } from './contexts.ts';
import type { RunControl } from './control.ts';
import type { RunDrift } from './drift.ts';
import type { RunGate } from './gate.ts';
import type { KeptArguments } from './kept-arguments.ts';
import type { Intended } from './story.ts';
import type { ShellState } from '../tools/shell-state.ts';
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
  readonly fingerprints: RunFingerprints;
  readonly drift: RunDrift;
  readonly answers: Answers;
  readonly keptArguments: KeptArguments;
  readonly contexts: Contexts;
  /** Nobody is asked for anything when it closes: what it leaves is a record, not a candidate. */
  readonly isVerify?: boolean;
  /** Of a run that goes on after its runner died. */
  readonly resumed?: Resumed;
}

/** What the runner before has left. */
export interface Resumed {
  /** Commands that the supervisor still knew. */
  readonly running: readonly RunningCall[];
  /** Commands that have ended meanwhile, without an outcome on record. */
  readonly ended: readonly EndedCall[];
  /** Intents without an outcome on record, by call. */
  readonly open: ReadonlyMap<string, Intended>;
  /** Calls that were made, and whose answer nobody has given. */
  readonly unanswered: ReadonlyMap<string, AskedBefore>;
  /** Shell sessions, as they stood. */
  readonly sessions: ReadonlyMap<string, ShellState>;
  /** Commands and uploads since somebody last looked at what they write; times by the wall clock. */
  readonly writers: ReadonlyMap<string, number>;
  readonly outputBytes: number;
  readonly openedMsAgo: number;
}

/** What is said beside a call: recorded, without effect. */
export interface Told {
  /** Whose call it is, where a service makes it for somebody. */
  readonly by?: string;
  /** By the harness. */
  readonly claims?: string;
}

export interface Asked {
  readonly request: CallRequest;
  readonly told: Told;
}
