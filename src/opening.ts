import { writeFileSync } from 'node:fs';
import { Approvals } from './approvals/approvals.ts';
import type { Approver } from './approvals/approval.ts';
import { Budget } from './budget/budget.ts';
import type { RunDir } from './data-dir/data-dir.ts';
import { digestPattern } from './digest.ts';
import type { Fence } from './egress/fence.ts';
import type { EngineFacts } from './engine/engine.ts';
import { isEnvironmentName } from './environment/environment.ts';
import { offerResults } from './environment/offer.ts';
import { SealWatch } from './egress/seal-watch.ts';
import { RunnerError, messageOf } from './errors.ts';
import { failpoint } from './failpoint.ts';
import { inJournal, sealBeside } from './fencing.ts';
import { Journal } from './journal/writer.ts';
import type { Placement } from './placement.ts';
import type { Recipe } from './pool/pool.ts';
import { warmRecipe, type WarmSandbox } from './pool/warm-sandbox.ts';
import type { LoadedPolicy } from './policy/policy.ts';
import { formatPolicyRecord } from './policy/policy-record.ts';
import { ContextStory } from './context/context-story.ts';
import { Answers } from './run/answers.ts';
import { contextsOf } from './run/contexts.ts';
import { RunControl } from './run/control.ts';
import { handOverEntry, openedEntry, startedEntry } from './run/entries.ts';
import { budgetLimits, onRiskOf, RunGate } from './run/gate.ts';
import { KeptArguments } from './run/kept-arguments.ts';
import type { ParsedLock } from './drift/lock.ts';
import { momentNow } from './machine-clock.ts';
import { findLock } from './run/base-lock.ts';
import { RunDrift } from './run/drift.ts';
import { OutsideWatch } from './run/outside-watch.ts';
import { keepRun } from './run/kept-run.ts';
import type { Origin } from './run/origin.ts';
import { Run } from './run/run.ts';
import { laySnapshot } from './run/lay-snapshot.ts';
import type { Replays, Requester, Verifies } from './run/made-for.ts';
import { makeSandbox } from './run/make-sandbox.ts';
import { sandboxSpec } from './run/sandbox-spec.ts';
import type { RunImage } from './run/snapshot.ts';
import {
  approvalOptions,
  durabilityOf,
  fingerprintsOf,
  waitingAfterMs,
  type RunnerOptions,
  type RunnerParts,
} from './runner-parts.ts';
import type { Sandbox } from './sandbox/sandbox.ts';
import type { Base } from './workspace/base/import.ts';
import type { Scope } from './workspace/scope/scope.ts';
import { makeSnapshotRepository } from './workspace/snapshot-repository.ts';

/** What the opening of a run has been given or found out. */
interface Opening {
  readonly policy: LoadedPolicy;
  readonly onProgress?: (line: string) => void;
  readonly signal?: AbortSignal;
  readonly image: RunImage;
  readonly scope: Scope;
  readonly facts: EngineFacts;
  readonly id: string;
  readonly placement: Placement;
  /** Its sandbox, where one was there already. */
  readonly warm?: WarmSandbox | undefined;
  readonly origin?: Origin;
  readonly by?: Requester;
  /** Who has made what it starts from. */
  readonly participants?: readonly string[];
  /** Made to look at a candidate: nobody is asked for anything at its end, and nothing of it is exported. */
  readonly verifies?: Verifies;
  /** Made to make the calls of another run again. */
  readonly replays?: Replays;
  /** Who is asked in it; default: who the runner asks. */
  readonly approver?: Approver;
}

/** What it has been given; the rest is found out when its turn has come. */
export interface Planned extends Omit<Opening, 'placement' | 'warm'> {
  place(): Promise<Placement>;
  /** That needs no look at a directory of the host: it is done before there is a turn, and a sandbox may be ready. */
  readonly quick: boolean;
}

type Runs = (work: () => Promise<Run>) => Promise<Run>;

/** A run that is on record. */
interface Begun {
  readonly dir: RunDir;
  readonly journal: Journal;
  /** Who works in it, as its first entries say. */
  readonly story: ContextStory;
}

/** What may end a run, or let no further call in. */
interface Ending {
  readonly stop: (reason: string) => void;
  readonly drift: RunDrift;
}

/** What a run goes on with. */
interface Started {
  readonly sandbox: Sandbox;
  readonly base: Base;
  readonly fence: Fence | undefined;
  readonly control: RunControl;
  readonly lock: ParsedLock | undefined;
}

/** Makes runs: everything or nothing. */
export class Opener {
  readonly #parts: RunnerParts;
  readonly #tidying = new Set<Promise<void>>();

  constructor(parts: RunnerParts) {
    this.#parts = parts;
  }

  /** Resolves when nothing lies any more where sandboxes have waited that runs were given. What cannot be removed is found by `gc`. */
  async tidied(): Promise<void> {
    await Promise.all(this.#tidying);
  }

  /** On any failure no container is left and the journal says why. */
  async open(planned: Planned): Promise<Run> {
    const { opens, pool } = this.#parts;
    const inTurn: Runs = (work) => opens.turn(work, planned.signal, planned.by?.team);
    return await opens.during(async () => {
      if (pool !== undefined && planned.quick) return await this.#openPlaced(planned, await planned.place(), inTurn);
      return await inTurn(async () => this.#openPlaced(planned, await planned.place()));
    });
  }

  /** So many sandboxes for such runs are kept ready from now on, within the pool's bound. */
  async keepReady(planned: Planned, count: number): Promise<void> {
    const { pool } = this.#parts;
    if (pool === undefined)
      throw new RunnerError('invalid_request', 'this runner makes nothing ahead; open it with the option pool');
    const placement = await planned.place();
    try {
      const recipe = this.#recipe(planned, placement);
      if (recipe === undefined)
        throw new RunnerError(
          'invalid_request',
          'no sandbox for such runs can be made ahead: the policy shares inputs, or the workspace is copied in; open them without',
        );
      pool.keep(recipe, count);
    } finally {
      await placement.discard(this.#parts.dataDir.runDir(planned.id));
    }
  }

  /** With the sandbox that is ready, or one that is made; for that `made` may have it wait. */
  async #openPlaced(planned: Planned, placement: Placement, made: Runs = (work) => work()): Promise<Run> {
    const { pool, dataDir } = this.#parts;
    let begun: Promise<Begun> | undefined;
    let warm: WarmSandbox | undefined;
    const begin = (): Promise<Begun> => (begun ??= this.#begin({ ...planned, placement }));
    const open = async (): Promise<Run> => this.#open({ ...planned, placement, warm }, await begin());
    try {
      const recipe = pool === undefined ? undefined : this.#recipe(planned, placement);
      // Beside the look at the one that is ready. Who may have to wait in line leaves nothing if the line is full.
      const isReady = recipe !== undefined && pool?.isReady(recipe) === true;
      const taken = recipe === undefined ? undefined : pool?.take(recipe);
      if (isReady) begin().catch(() => undefined);
      warm = await taken;
      return await (warm === undefined ? made(open) : open());
    } catch (error) {
      const left = await begun?.catch(() => undefined); // one that could not be begun has left nothing
      if (left !== undefined) await this.#giveUp(left, planned, placement, error);
      await warm?.discard().catch(() => undefined); // what is left of either is found by `gc`
      await placement.discard(dataDir.runDir(planned.id)).catch(() => undefined);
      throw error;
    }
  }

  /** Results of an environment that are to be copied in are for each run to copy. */
  #recipe({ image, policy }: Planned, placement: Placement): Recipe<WarmSandbox> | undefined {
    const { engine, dataDir, instance, options } = this.#parts;
    if (isEnvironmentName(image.reference) && !placement.hasResults) return undefined;
    return warmRecipe({ image: image.id, policy, placement }, { engine, dataDir, instance, ...awayOf(options) });
  }

  async #open(opening: Opening, { dir, journal, story }: Begun): Promise<Run> {
    const { id, policy, placement } = opening;
    let run: Run | undefined;
    const stop = (reason: string): void => void run?.close('failed', `stopped: ${reason}`).catch(() => undefined);
    await failpoint('open.journaled');
    const { approver = this.#parts.options.approver } = opening;
    const approvals = await Approvals.open({ ...approvalOptions(this.#parts, dir, journal), approver });
    const drift = new RunDrift({ rules: policy.policy.drift, journal, end: stop });
    const { base, lock, ...started } = await this.#start(dir, opening, journal, { stop, drift });
    const budget = new Budget(budgetLimits(policy.policy));
    const onRisk = onRiskOf(journal, started.fence);
    const halted = () => drift.halted();
    const gate = new RunGate({ run: id, policy, budget, approvals, base: base.digest, onRisk, halted });
    const due = {
      at: opening.verifies === undefined ? 'open' : 'verify',
      isDue: lock !== undefined || drift.isRuled,
    } as const;
    const looked = { dir, policy, image: opening.image, placement, ...started, base, journal };
    const fingerprints = fingerprintsOf(this.#parts, due, looked);
    drift.begin({ reclassify: (by) => gate.raise('high', by), fingerprints });
    run = new Run({
      dir,
      policy,
      image: opening.image,
      ...started,
      journal,
      budget,
      approvals,
      fingerprints,
      answers: Answers.create(dir.answers, this.#parts.options.durability),
      keptArguments: KeptArguments.create(dir.arguments),
      gate,
      contexts: contextsOf({ dir, journal, policy: policy.policy, gate, fence: started.fence }, story),
      drift,
      waitingAfterMs: this.#parts.options.waitingAfterMs ?? waitingAfterMs,
      scope: opening.scope,
      base,
      blobs: this.#parts.blobs,
      placement,
      isVerify: opening.verifies !== undefined,
    });
    await this.#hold(run, drift, lock);
    return run;
  }

  /** Nobody calls in a run whose environment is to fail it. */
  async #hold(run: Run, drift: RunDrift, lock: ParsedLock | undefined): Promise<void> {
    try {
      await drift.opened(lock);
    } catch (error) {
      await run.close('failed', `did not open: ${messageOf(error)}`).catch(() => undefined); // `error` is what counts
      throw error;
    }
  }

  /** A run that was begun and does not open is closed, and says why. */
  async #giveUp({ dir, journal }: Begun, { signal }: Planned, placement: Placement, error: unknown): Promise<void> {
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
    await dir.dropKept();
    await placement.discard(dir).catch(() => undefined); // what is left of it is found by `gc`
    await journal.close();
  }

  /** A run whose intent cannot be recorded leaves no directory either. */
  async #begin(opening: Omit<Opening, 'warm'>): Promise<Begun> {
    const { id, policy, placement, participants = [] } = opening;
    let journal: Journal | undefined;
    try {
      const dir = await this.#parts.dataDir.createRun(id);
      await failpoint('open.directory');
      writeFileSync(dir.policy, formatPolicyRecord(policy));
      journal = await Journal.create(dir.journal, id, durabilityOf(this.#parts.options));
      await failpoint('open.begun');
      const story = new ContextStory();
      story.push(await journal.append(openedEntry(opening)));
      const handedOver = handOverEntry(opening.origin?.worker, story.worker, opening);
      if (handedOver !== undefined) story.push(await journal.append(handedOver));
      for (const by of participants)
        await journal.append({ type: 'participant.joined', data: { by, how: 'fork_source' } });
      return { dir, journal, story };
    } catch (error) {
      await journal?.close();
      await placement.discard(this.#parts.dataDir.runDir(id)).catch(() => undefined); // `error` is what counts
      await this.#parts.dataDir.removeRun(id);
      if (error instanceof RunnerError) throw error;
      const message = `run ${id} cannot be kept in ${this.#parts.dataDir.path}: ${messageOf(error)}; make room there, then try again`;
      throw new RunnerError('data_dir_unusable', message, { cause: error });
    }
  }

  async #start(dir: RunDir, opening: Opening, journal: Journal, { stop, drift }: Ending): Promise<Started> {
    const { placement, origin, policy, signal, image, scope, warm } = opening;
    const { blobs } = this.#parts;
    signal?.throwIfAborted();
    const sandbox = await this.#sandbox(dir, opening);
    let fence: Fence | undefined;
    let control: RunControl | undefined;
    try {
      signal?.throwIfAborted();
      await failpoint('open.welcomed');
      const inputs = await placement.verify();
      const isDerived = isEnvironmentName(image.reference) || digestPattern.test(image.reference);
      const derived = isDerived && warm?.isolation === undefined; // where nothing is let out it was done ahead
      const record = inJournal(journal);
      const parts = { sandbox, derived, record, isolation: warm?.isolation, stop, ...this.#parts.options };
      const sealed = await sealBeside(policy.policy, parts, placement.fill(dir, sandbox.files));
      const { isolation, done: base } = sealed;
      fence = sealed.fence;
      await failpoint('open.unpacked');
      const lock = drift.looksAt('open') ? await findLock(base.tree, sandbox.files) : undefined;
      await journal.append(startedEntry({ sandbox, base, placement, inputs, isolation, warm: warm !== undefined }));
      const { lookAgainMs: everyMs } = this.#parts.options;
      const outside = new OutsideWatch({
        engine: this.#parts.engine,
        sandbox,
        drift,
        before: warm?.reading ?? sandbox.reading,
      });
      const seal = new SealWatch({ sandbox, everyMs, outside, onFound: (error) => stop(error.message) });
      control = await RunControl.open(dir.path, { id: dir.id, policy, sandbox, journal, fence, seal });
      const offered = placement.hasResults || origin?.scratch === true;
      if (isEnvironmentName(image.reference) && !offered) await offerResults(sandbox, scope, base);
      if (policy.policy.files.git && warm === undefined) await makeSnapshotRepository(sandbox);
      if (origin !== undefined) await laySnapshot(await origin.snapshot, { dir, base, sandbox, journal, blobs });
      if (warm !== undefined) this.#leaveTidying(warm.tidied);
      const clock = { runMs: journal.runMs, moment: momentNow() };
      keepRun(dir, { generation: 1, clock, ...(fence === undefined ? {} : { fence: fence.kept() }) });
      await failpoint('open.recorded');
      signal?.throwIfAborted();
      return { sandbox, base, fence, control, lock };
    } catch (error) {
      await control?.close();
      await fence?.close();
      await sandbox.close().catch(() => undefined); // what is left of it is found by its labels
      throw error;
    }
  }

  /** No run waits for it. */
  #leaveTidying(tidied: Promise<void>): void {
    const tracked = tidied.catch(() => undefined).finally(() => this.#tidying.delete(tracked));
    this.#tidying.add(tracked);
  }

  async #sandbox(dir: RunDir, { placement, origin, policy, image, warm, onProgress }: Opening): Promise<Sandbox> {
    const { outputPerRunBytes: outputMaxBytes } = policy.policy.limits;
    if (warm !== undefined) {
      onProgress?.(`sandbox ${warm.sandbox.spec.id} from image ${image.reference} was ready`);
      origin?.begin();
      return await warm.handOver(dir, placement, outputMaxBytes);
    }
    const { engine, dataDir, instance, options } = this.#parts;
    const spec = sandboxSpec({ image: image.id, policy, placement, owner: dataDir.owner, instance });
    onProgress?.(`opening sandbox ${spec.id} from image ${image.reference}`);
    return await makeSandbox(engine, {
      spec,
      placement,
      dir,
      options: { outputMaxBytes, ...awayOf(options) },
      onBegun: () => origin?.begin(),
    });
  }
}

function awayOf({ engineAwayMs }: RunnerOptions): { readonly engineAwayMs?: number } {
  return engineAwayMs === undefined ? {} : { engineAwayMs };
}
