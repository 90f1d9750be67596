import type { ApprovalsOptions } from './approvals/approvals.ts';
import type { Approver } from './approvals/approval.ts';
import type { DataDir, RunDir } from './data-dir/data-dir.ts';
import type { InstalledMemory } from './drift/installed-memory.ts';
import type { Network } from './egress/outside/network.ts';
import type { Engine } from './engine/engine.ts';
import type { Journal, JournalOptions } from './journal/writer.ts';
import type { Placements } from './placement.ts';
import type { Opens, OpensOptions } from './pool/opens.ts';
import type { PoolOptions, WarmPool } from './pool/pool.ts';
import type { WarmSandbox } from './pool/warm-sandbox.ts';
import { approvalEntry } from './run/entries.ts';
import { RunFingerprints, type FingerprintsParts } from './run/fingerprints.ts';
import type { BlobStore } from './workspace/blobs.ts';

/** What a runner is given, and what it is made of. */

/** The operator's part of egress; what a policy does not allow stays out of reach. */
export interface Reach {
  /** How this machine gets out; default: directly. */
  readonly network?: Network;
  /** Programs that print secrets, by the names that policies call them; default: none. */
  readonly credentialCommands?: Readonly<Record<string, readonly string[]>>;
  /** Destinations in the network of this machine that policies sent to its service may name; default: none. */
  readonly sentPolicies?: readonly string[];
}

export interface RunnerOptions extends Reach {
  /** Asks people for what a policy wants approved. Without one, all of it is denied. */
  readonly approver?: Approver | undefined;
  /** After so long a call that waits for people answers that it waits; default 10,000. */
  readonly waitingAfterMs?: number;
  /** How long an engine may be gone before the runs whose stream it carries are lost; default 20,000. */
  readonly engineAwayMs?: number;
  /** How often it is looked whether an open sandbox still has no network of its own; default 15,000. */
  readonly lookAgainMs?: number;
  /** What entries and answers survive: the end of this process (default), or of the machine's power. */
  readonly durability?: 'process' | 'power' | undefined;
  /** Whether each run has a fingerprint taken as it opens. Default: false, when somebody asks for one. */
  readonly fingerprints?: boolean;
  /** Sandboxes that are made before anybody asks for them. Default: none. */
  readonly pool?: PoolOptions;
  /** How many runs are opened at once, and how many may wait for that. */
  readonly opens?: OpensOptions;
}

/** What a runner is made of. */
export interface RunnerParts {
  readonly engine: Engine;
  readonly dataDir: DataDir;
  readonly blobs: BlobStore;
  readonly placements: Placements;
  /** Id of this process in the data directory. */
  readonly instance: string;
  readonly opens: Opens;
  /** Absent where nothing is to be made ahead. */
  readonly pool?: WarmPool<WarmSandbox>;
  /** What images have installed, as far as somebody has looked. */
  readonly installed: InstalledMemory;
  readonly options: RunnerOptions;
}

export const waitingAfterMs = 10_000;

export function durabilityOf({ durability }: RunnerOptions): JournalOptions {
  return durability === undefined ? {} : { durability };
}

/** How a run asks people. */
export function approvalOptions({ options }: RunnerParts, dir: RunDir, journal: Journal): ApprovalsOptions {
  return {
    run: dir.id,
    directory: dir.approvalsDir,
    approver: options.approver,
    record: (event) => journal.append(approvalEntry(event)),
  };
}

/** How it is looked at the environment of a run. `isDue`: its policy or its base asks for it. */
export function fingerprintsOf(
  { engine, dataDir, installed, options }: RunnerParts,
  { at, isDue }: { readonly at: 'open' | 'verify'; readonly isDue: boolean },
  given: Omit<FingerprintsParts, 'engine' | 'dataDir' | 'installed' | 'first'>,
): RunFingerprints {
  const first = isDue || options.fingerprints === true ? at : undefined;
  return new RunFingerprints({ ...given, engine, installed, dataDir: dataDir.path, first });
}
