import { writeFile } from 'node:fs/promises';
import type { Approver } from './approvals/approval.ts';
import { Approvals } from './approvals/approvals.ts';
import { Budget } from './budget/budget.ts';
import type { DataDir, RunDir } from './data-dir/data-dir.ts';
import { digestPattern, type Digest } from './digest.ts';
import type { Fence } from './egress/fence.ts';
import type { Network } from './egress/outside/network.ts';
import type { Engine, EngineFacts } from './engine/engine.ts';
import { buildEnvironment, type BuildEnvironmentOptions } from './environment/build.ts';
import { findWanted, isEnvironmentName, type Wanted } from './environment/environment.ts';
import { findEnvironmentLock } from './environment/lock.ts';
import { offerResults } from './environment/offer.ts';
import { RunnerError, messageOf } from './errors.ts';
import { failpoint } from './failpoint.ts';
import { inJournal, sealBeside } from './fencing.ts';
import { newId } from './ids.ts';
import { readAccepted, resolveImage } from './images/accepted.ts';
import type { Draft } from './journal/entry.ts';
import { Journal } from './journal/writer.ts';
import { Placements, type Placement } from './placement.ts';
import type { IntentInput } from './policy/language/intent.ts';
import { formatPolicyRecord } from './policy/policy-record.ts';
import { recompile, type LoadedPolicy, type Policy } from './policy/policy.ts';
import { EgressRules } from './policy/decisions/egress-rules.ts';
import { refuseTask } from './policy/decisions/refuse-task.ts';
import { recover, type Recovered } from './recovery.ts';
import { budgetLimits, RunGate, type GateParts } from './run/gate.ts';
import { RunControl } from './run/control.ts';
import { approvalEntry, openedEntry, sizeOf, startedEntry } from './run/entries.ts';
import { Run } from './run/run.ts';
import { sandboxSpec } from './run/sandbox-spec.ts';
import { leftOutText, placementFor, select } from './run/workspace.ts';
import { originOf, type Origin } from './run/origin.ts';
import type { RunImage, RunSnapshot } from './run/snapshot.ts';
import type { SandboxSpec } from './sandbox/container-body.ts';
import { Sandbox } from './sandbox/sandbox.ts';
import { BlobStore } from './workspace/blobs.ts';
import type { Base } from './workspace/base/import.ts';
import { Scope } from './workspace/scope/scope.ts';
import { makeSnapshotRepository } from './workspace/snapshot-repository.ts';
import { toUnpackItems } from './workspace/snapshot.ts';

export { Run, type CloseReason } from './run/run.ts';
export { exportDocument } from './run/export.ts';
export { findRunSnapshot, type RunSnapshot } from './run/snapshot.ts';

export interface OpenRequest {
  readonly policy: LoadedPolicy;
  /** Host directory whose allowed files are copied in. Absent: an empty workspace. */
  readonly workspace?: string;
  /** Instead of `workspace`: the key of a base that was imported before, under the same scope of files. */
  readonly base?: string;
  /** One of the policy's images; default its first. */
  readonly image?: string;
  /** What the run is for, recorded first; or all that is to narrow the policy for it. */
  readonly intent?: string | IntentInput;
  readonly onProgress?: (line: string) => void;
  /** Gives up opening: nothing is left, the journal says cancelled, and its reason is thrown. Once open, close the run. */
  readonly signal?: AbortSignal;
}

export interface ForkRequest {
  /** How many, side by side; default 1. */
  readonly count?: number;
  readonly intent?: string;
  readonly onProgress?: (line: string) => void;
  readonly signal?: AbortSignal;
}

/** What the opening of a run has been given or found out. */
interface Opening extends Pick<OpenRequest, 'policy' | 'onProgress' | 'signal'> {
  readonly image: RunImage;
  readonly scope: Scope;
  readonly facts: EngineFacts;
  readonly id: string;
  readonly placement: Placement;
  readonly origin?: Origin;
}

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

/** What a run goes on with. */
interface Started {
  readonly sandbox: Sandbox;
  readonly base: Base;
  readonly fence: Fence | undefined;
  readonly control: RunControl;
}

const waitingAfterMs = 10_000;
const forksMax = 64;

/**
 * The straight path: open, call, diff, close. One runner per process and data directory; it owns no rule of its own,
 * it puts the nouns in order and is the only one that writes journals.
 */
export class Runner {
  readonly #engine: Engine;
  readonly #dataDir: DataDir;
  readonly #blobs: BlobStore;
  readonly #instance: string;
  readonly #placements: Placements;
  readonly #options: RunnerOptions;

  private constructor(
    engine: Engine,
    dataDir: DataDir,
    blobs: BlobStore,
    placements: Placements,
    instance: string,
    options: RunnerOptions,
  ) {
    this.#options = options;
    this.#engine = engine;
    this.#dataDir = dataDir;
    this.#blobs = blobs;
    this.#instance = instance;
    this.#placements = placements;
  }

  static async create(engine: Engine, dataDir: DataDir, options: RunnerOptions = {}): Promise<Runner> {
    const instance = await dataDir.registerInstance();
    const blobs = await BlobStore.open(dataDir.blobsDir);
    return new Runner(engine, dataDir, blobs, await Placements.open(engine, dataDir, blobs), instance.id, options);
  }

  /** Everything or nothing: on any failure no container is left and the journal says why. */
  async open(asked: OpenRequest): Promise<Run> {
    const request = { ...asked, policy: policyWith(asked.policy, asked.intent) };
    const { policy } = request.policy;
    refuseTask(policy, request.policy.task.intent);
    if (request.image !== undefined && !policy.images.includes(request.image)) {
      throw new RunnerError(
        'image_not_allowed',
        `image ${request.image} is not in the policy's list (${policy.images.join(', ')}); add it there or choose one of these`,
      );
    }
    const scope = Scope.compile(policy.files);
    const reference = request.image ?? (await this.#defaultImage(request));
    const [image, facts] = await Promise.all([this.#resolve(reference, request.policy), this.#engine.describe()]);
    const id = newId();
    const source = request.base === undefined ? await select(request, scope) : { base: request.base };
    const placement = await this.#placements.place(source, placementFor(id, request.policy, scope, image, request));
    const size = `${placement.files} files, ${Math.ceil(placement.sizeBytes / 1024)} KiB`;
    request.onProgress?.(`workspace: ${size}${'base' in source ? '' : leftOutText(source)}`);
    return this.#open({ ...request, id, image, scope, facts, placement });
  }

  /**
   * New runs that start where the source stands: same policy, image and base, its changes laid over it; each with its own
   * sandbox, journal and budget. All or none.
   */
  async fork(source: Run | RunSnapshot, request: ForkRequest = {}): Promise<readonly Run[]> {
    const { count = 1, intent, ...rest } = request;
    if (!Number.isInteger(count) || count < 1 || count > forksMax)
      throw new RunnerError('invalid_request', `${count} forks were asked for; 1 to ${forksMax} at once are possible`);
    const { base, image: wanted } = source;
    const policy = policyWith(source.policy, intent);
    const scope = Scope.compile(policy.policy.files);
    const origin = originOf(source);
    const known = Promise.all([this.#resolve(wanted.reference, policy), this.#engine.describe()]);
    // A snapshot that is refused at once refuses the fork before anything is made.
    const [image, facts] = await Promise.race([known, origin.snapshot.then(() => known)]);
    if (image.id !== wanted.id)
      throw new RunnerError(
        'image_not_allowed',
        `run ${origin.forkedFrom.run} used image ${wanted.reference} as ${wanted.id}, which is ${image.id} now; a fork would start elsewhere`,
      );
    const opened = await Promise.allSettled(
      Array.from({ length: count }, async () => {
        const id = newId();
        const placed = placementFor(id, policy, scope, image, { ...rest, scratch: origin.scratch });
        const placement = await this.#placements.reopen(base, placed);
        return this.#open({ ...rest, id, policy, image, scope, facts, placement, origin });
      }),
    );
    const runs = opened.flatMap((fork) => (fork.status === 'fulfilled' ? [fork.value] : []));
    const failed = opened.find((fork) => fork.status === 'rejected');
    if (failed === undefined) return runs;
    await Promise.allSettled(runs.map((run) => run.close('failed', 'another fork did not open')));
    throw failed.reason;
  }

  /** The environment where the policy has one, built from these very files; else the first image. */
  async #defaultImage({ policy: { policy }, workspace }: OpenRequest): Promise<string> {
    if (policy.environment === undefined) return policy.images[0] ?? 'base';
    const { name } = await this.findEnvironment(policy, workspace);
    if ((await findEnvironmentLock(this.#dataDir.path, name)) !== undefined) return name;
    const from = workspace === undefined ? '' : ` -w ${workspace}`;
    throw new RunnerError(
      'image_not_found',
      `the environment ${name} of policy ${policy.name} is not built for these files; run: glovebox env build -p POLICY${from}`,
    );
  }

  findEnvironment(policy: Policy, workspace: string | undefined): Promise<Wanted> {
    return findWanted(policy, workspace, { engine: this.#engine, dataDir: this.#dataDir.path, blobs: this.#blobs });
  }

  /** Cheap when it is built already. */
  async buildEnvironment(
    policy: Policy,
    workspace: string | undefined,
    options: Pick<BuildEnvironmentOptions, 'network' | 'access' | 'rebuild' | 'signal' | 'onProgress'>,
  ): Promise<Awaited<ReturnType<typeof buildEnvironment>>> {
    return buildEnvironment(await this.findEnvironment(policy, workspace), {
      ...options,
      policy,
      engine: this.#engine,
      dataDir: this.#dataDir.path,
      blobs: this.#blobs,
      owner: this.#dataDir.owner,
      instance: this.#instance,
      reach: this.#options,
    });
  }

  async #resolve(reference: string, { policy }: LoadedPolicy): Promise<RunImage> {
    const policyIds = policy.images.filter((name) => digestPattern.test(name));
    const accepted = await readAccepted(this.#dataDir.path);
    return { reference, id: (await resolveImage(this.#engine, accepted, reference, policyIds)) as Digest };
  }

  async #open(opening: Opening): Promise<Run> {
    const { id, policy, signal, placement } = opening;
    const ours = { owner: this.#dataDir.owner, instance: this.#instance };
    const spec = sandboxSpec({ runId: id, image: opening.image.id, policy, placement, ...ours });
    const { dir, journal } = await this.#begin(opening, openedEntry(opening, spec));
    let run: Run | undefined;
    const stop = (reason: string): void => void run?.close('failed', `stopped: ${reason}`).catch(() => undefined);
    try {
      await failpoint('open.journaled');
      const approvals = await Approvals.open({
        run: id,
        directory: dir.approvalsDir,
        approver: this.#options.approver,
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
        waitingAfterMs: this.#options.waitingAfterMs ?? waitingAfterMs,
        scope: opening.scope,
        base,
        blobs: this.#blobs,
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
      const dir = await this.#dataDir.createRun(id);
      await failpoint('open.directory');
      await writeFile(dir.policy, formatPolicyRecord(policy));
      journal = await Journal.create(dir.journal, id);
      await failpoint('open.begun');
      await journal.append(opened);
      return { dir, journal };
    } catch (error) {
      await journal?.close();
      await placement.discard(this.#dataDir.runDir(id)).catch(() => undefined); // `error` is what counts
      await this.#dataDir.removeRun(id);
      if (error instanceof RunnerError) throw error;
      const message = `run ${id} cannot be kept in ${this.#dataDir.path}: ${messageOf(error)}; make room there, then try again`;
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
    const opening = Sandbox.open(this.#engine, spec, {
      directory: dir.callsDir,
      outputMaxBytes: policy.policy.limits.outputPerRunBytes,
      ready: laid,
      ...(this.#options.engineAwayMs === undefined ? {} : { engineAwayMs: this.#options.engineAwayMs }),
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
      const parts = { sandbox, derived, record: inJournal(journal), stop, ...this.#options };
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
    await sandbox.files.unpack('.', toUnpackItems(base.tree, changeSet, this.#blobs), { owners: true });
  }

  /** Closes what a runner that died has left: containers, and journals without an end. Safe at any time, and twice. */
  recover(options?: { dryRun?: boolean }): Promise<Recovered> {
    return recover(this.#engine, this.#dataDir, options);
  }

  async close(): Promise<void> {
    await this.#dataDir.forgetInstance(this.#instance);
  }
}

/** The same policy, narrowed by what this run is for. */
function policyWith(policy: LoadedPolicy, asked: string | IntentInput | undefined): LoadedPolicy {
  if (asked === undefined) return policy;
  const intent = typeof asked === 'string' ? { summary: asked } : asked;
  return recompile(policy, { ...policy.task, intent: { ...policy.task.intent, ...intent } });
}
