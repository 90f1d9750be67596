import { writeFile } from 'node:fs/promises';
import { Approvals } from './approvals/approvals.ts';
import type { Approver } from './approvals/approval.ts';
import { Budget } from './budget/budget.ts';
import type { DataDir, RunDir } from './data-dir/data-dir.ts';
import { digestPattern } from './digest.ts';
import type { Fence } from './egress/fence.ts';
import type { Network } from './egress/outside/network.ts';
import type { Engine, EngineFacts } from './engine/engine.ts';
import { isEnvironmentName } from './environment/environment.ts';
import { offerResults } from './environment/offer.ts';
import { RunnerError, messageOf } from './errors.ts';
import { failpoint } from './failpoint.ts';
import { inJournal, sealBeside } from './fencing.ts';
import type { Draft, EntryData } from './journal/entry.ts';
import { Journal } from './journal/writer.ts';
import type { Placement, Placements } from './placement.ts';
import { EgressRules } from './policy/decisions/egress-rules.ts';
import type { LoadedPolicy } from './policy/policy.ts';
import { formatPolicyRecord } from './policy/policy-record.ts';
import { RunControl } from './run/control.ts';
import { approvalEntry, openedEntry, sizeOf, startedEntry } from './run/entries.ts';
import { budgetLimits, RunGate, type GateParts } from './run/gate.ts';
import type { Origin } from './run/origin.ts';
import { Run } from './run/run.ts';
import { sandboxSpec } from './run/sandbox-spec.ts';
import type { RunImage, RunSnapshot } from './run/snapshot.ts';
import type { SandboxSpec } from './sandbox/container-body.ts';
import { Sandbox } from './sandbox/sandbox.ts';
import type { BlobStore } from './workspace/blobs.ts';
import type { Base } from './workspace/base/import.ts';
import type { Scope } from './workspace/scope/scope.ts';
import { makeSnapshotRepository } from './workspace/snapshot-repository.ts';
import { toUnpackItems } from './workspace/snapshot.ts';

/** The operator's part of egress; what a policy does not allow stays out of reach. */
export interface Reach {
  /** How this machine gets out; default: directly. */
  readonly network?: Network;
  /** Programs that print secrets, by the names that policies call them; default: none. */
  readonly credentialCommands?: Readonly<Record<string, readonly string[]>>;
}

export interface RunnerOptions extends Reach {
  /** Asks people for what a policy wants approved. Without one, all of it is denied. */
  readonly approver?: Approver | undefined;
  /** After so long a call that waits for people answers that it waits; default 10,000. */
  readonly waitingAfterMs?: number;
  /** How long an engine may be gone before the runs whose stream it carries are lost; default 20,000. */
  readonly engineAwayMs?: number;
}

/** What a runner is made of. */
export interface RunnerParts {
  readonly engine: Engine;
  readonly dataDir: DataDir;
  readonly blobs: BlobStore;
  readonly placements: Placements;
  /** Id of this process in the data directory. */
  readonly instance: string;
  readonly options: RunnerOptions;
}

/** What the opening of a run has been given or found out. */
export interface Opening {
  readonly policy: LoadedPolicy;
  readonly onProgress?: (line: string) => void;
  readonly signal?: AbortSignal;
  readonly image: RunImage;
  readonly scope: Scope;
  readonly facts: EngineFacts;
  readonly id: string;
  readonly placement: Placement;
  readonly origin?: Origin;
  readonly by?: Requester;
}

/** Whose run it is: on record in its journal, so that it is known wherever that is. */
export type Requester = NonNullable<EntryData<'run.opened'>['by']>;

/** What a run goes on with. */
interface Started {
  readonly sandbox: Sandbox;
  readonly base: Base;
  readonly fence: Fence | undefined;
  readonly control: RunControl;
}

const waitingAfterMs = 10_000;

/** Makes runs: everything or nothing. */
export class Opener {
  readonly #parts: RunnerParts;

  constructor(parts: RunnerParts) {
    this.#parts = parts;
  }

  /** On any failure no container is left and the journal says why. */
  async open(opening: Opening): Promise<Run> {
    const { id, policy, signal, placement } = opening;
    const ours = { owner: this.#parts.dataDir.owner, instance: this.#parts.instance };
    const spec = sandboxSpec({ image: opening.image.id, policy, placement, ...ours });
    const { dir, journal } = await this.#begin(opening, openedEntry(opening, spec));
    let run: Run | undefined;
    const stop = (reason: string): void => void run?.close('failed', `stopped: ${reason}`).catch(() => undefined);
    try {
      await failpoint('open.journaled');
      const approvals = await Approvals.open({
        run: id,
        directory: dir.approvalsDir,
        approver: this.#parts.options.approver,
        record: (event) => journal.append(approvalEntry(event)),
      });
      opening.onProgress?.(`opening sandbox ${spec.id} from image ${opening.image.reference}`);
      const { base, ...started } = await this.#start(spec, dir, opening, journal, stop);
      const budget = new Budget(budgetLimits(policy.policy));
      const onRisk: GateParts['onRisk'] = async (from, to, by, { egress }) => {
        await journal.append({ type: 'risk.raised', data: { from, to, by } });
        started.fence?.narrow(new EgressRules(egress));
      };
      run = new Run({
        dir,
        policy,
        image: opening.image,
        ...started,
        journal,
        budget,
        approvals,
        gate: new RunGate({ run: id, policy, budget, approvals, base: base.digest, onRisk }),
        waitingAfterMs: this.#parts.options.waitingAfterMs ?? waitingAfterMs,
        scope: opening.scope,
        base,
        blobs: this.#parts.blobs,
        placement,
      });
      return run;
    } catch (error) {
      const cancelled = signal?.aborted === true;
      const summary = cancelled ? 'cancelled while it was opened' : `did not open: ${messageOf(error)}`;
      const data = {
        outcome: cancelled ? 'cancelled' : 'failed',
        summary,
        calls: 0,
        denied: 0,
        outputBytes: 0,
        ms: 0,
      } as const;
      await journal.append({ type: 'run.closed', data }).catch(() => undefined);
      await placement.discard(dir).catch(() => undefined); // what is left of it is found by `gc`
      await journal.close();
      throw error;
    }
  }

  /** A run whose intent cannot be recorded leaves no directory either. */
  async #begin({ id, policy, placement }: Opening, opened: Draft): Promise<{ dir: RunDir; journal: Journal }> {
    let journal: Journal | undefined;
    try {
      const dir = await this.#parts.dataDir.createRun(id);
      await failpoint('open.directory');
      await writeFile(dir.policy, formatPolicyRecord(policy));
      journal = await Journal.create(dir.journal, id);
      await failpoint('open.begun');
      await journal.append(opened);
      return { dir, journal };
    } catch (error) {
      await journal?.close();
      await placement.discard(this.#parts.dataDir.runDir(id)).catch(() => undefined); // `error` is what counts
      await this.#parts.dataDir.removeRun(id);
      if (error instanceof RunnerError) throw error;
      const message = `run ${id} cannot be kept in ${this.#parts.dataDir.path}: ${messageOf(error)}; make room there, then try again`;
      throw new RunnerError('data_dir_unusable', message, { cause: error });
    }
  }

  async #start(
    spec: SandboxSpec,
    dir: RunDir,
    { placement, origin, policy, signal, image, scope }: Opening,
    journal: Journal,
    stop: (reason: string) => void,
  ): Promise<Started> {
    signal?.throwIfAborted();
    const { laid } = await placement.prepare(dir, spec.labels);
    const opening = Sandbox.open(this.#parts.engine, spec, {
      directory: dir.callsDir,
      outputMaxBytes: policy.policy.limits.outputPerRunBytes,
      ready: laid,
      ...(this.#parts.options.engineAwayMs === undefined ? {} : { engineAwayMs: this.#parts.options.engineAwayMs }),
    });
    origin?.begin();
    const [opened] = await Promise.allSettled([opening, laid]); // a failure finds nothing in the making
    if (opened.status === 'rejected') throw opened.reason;
    const sandbox = opened.value;
    let fence: Fence | undefined;
    let control: RunControl | undefined;
    try {
      signal?.throwIfAborted();
      await failpoint('open.welcomed');
      const inputs = await placement.verify();
      const derived = isEnvironmentName(image.reference) || digestPattern.test(image.reference);
      const parts = { sandbox, derived, record: inJournal(journal), stop, ...this.#parts.options };
      const sealed = await sealBeside(policy.policy, parts, placement.fill(dir, sandbox.files));
      const { isolation, done: base } = sealed;
      fence = sealed.fence;
      await failpoint('open.unpacked');
      const container = sandbox.containerId;
      await journal.append(startedEntry({ spec, container, base, placement, inputs, isolation }));
      control = await RunControl.open(dir.path, { id: dir.id, policy, sandbox, journal, fence });
      const offered = placement.hasResults || origin?.scratch === true;
      if (isEnvironmentName(image.reference) && !offered) await offerResults(sandbox, scope, base);
      if (policy.policy.files.git) await makeSnapshotRepository(sandbox);
      if (origin !== undefined) await this.#lay(await origin.snapshot, base, sandbox, journal);
      await failpoint('open.recorded');
      signal?.throwIfAborted();
      return { sandbox, base, fence, control };
    } catch (error) {
      await control?.close();
      await fence?.close();
      await sandbox.close().catch(() => undefined); // what is left of it is found by its labels
      throw error;
    }
  }

  async #lay(snapshot: RunSnapshot, base: Base, sandbox: Sandbox, journal: Journal): Promise<void> {
    const { run, digest, changeSet } = snapshot;
    await journal.append({ type: 'snapshot.applied', data: { run, digest, ...sizeOf(snapshot) } });
    await sandbox.files.unpack('.', toUnpackItems(base.tree, changeSet, this.#parts.blobs), { owners: true });
  }
}
