import { setTimeout as sleep } from 'node:timers/promises';
import type { Approver } from './approvals/approval.ts';
import type { DataDir } from './data-dir/data-dir.ts';
import { canonicalJson, digestPattern, type Digest } from './digest.ts';
import { InstalledMemory } from './drift/installed-memory.ts';
import type { Engine } from './engine/engine.ts';
import { buildEnvironment, type BuildEnvironmentOptions } from './environment/build.ts';
import { findWanted, type Wanted } from './environment/environment.ts';
import { findEnvironmentLock } from './environment/lock.ts';
import { RunnerError } from './errors.ts';
import { newId } from './ids.ts';
import { findAccepted, readAccepted, resolveImage } from './images/accepted.ts';
import { Opener, type Planned } from './opening.ts';
import { Placements, type Placement } from './placement.ts';
import { Opens, type OpensStats } from './pool/opens.ts';
import { WarmPool, type PoolStats } from './pool/pool.ts';
import type { WarmSandbox } from './pool/warm-sandbox.ts';
import type { IntentInput } from './policy/language/intent.ts';
import { recompile, type LoadedPolicy, type Policy } from './policy/policy.ts';
import { refuseTask } from './policy/decisions/refuse-task.ts';
import { closeLostRun, recover, type Recovered } from './recovery.ts';
import { resumeRun, type ResumeOptions } from './resuming.ts';
import { forkPolicy, refuseUnseen, type ForkTask } from './run/fork-policy.ts';
import type { Replays, Requester, Verifies } from './run/made-for.ts';
import { Run } from './run/run.ts';
import { leftOutText, placementFor, select } from './run/workspace.ts';
import { originOf } from './run/origin.ts';
import type { RunImage, RunSnapshot } from './run/snapshot.ts';
import type { RunnerOptions, RunnerParts } from './runner-parts.ts';
import { BlobStore } from './workspace/blobs.ts';
import { Scope } from './workspace/scope/scope.ts';

export type { Reach, RunnerOptions } from './runner-parts.ts';
export { Run, type CloseReason } from './run/run.ts';
export { exportDocument } from './run/export.ts';
export { findRunSnapshot, type RunSnapshot } from './run/snapshot.ts';

export interface OpenRequest {
  /** Of the run, where it is on record somewhere before it is opened; default a new one. */
  readonly id?: string;
  readonly policy: LoadedPolicy;
  /** Host directory whose allowed files are copied in. Absent: an empty workspace. */
  readonly workspace?: string;
  /** Instead of `workspace`: the key of a base that was imported before, under the same scope of files. */
  readonly base?: string;
  /** One of the policy's images; default its first. */
  readonly image?: string;
  /** What the run is for, recorded first; or all that is to narrow the policy for it. */
  readonly intent?: string | IntentInput;
  /** Whose it is, where a service opens it for somebody. */
  readonly by?: Requester;
  readonly onProgress?: (line: string) => void;
  /** Gives up opening: nothing is left, the journal says cancelled, and its reason is thrown. Once open, close the run. */
  readonly signal?: AbortSignal;
}

export interface ForkRequest extends ForkTask {
  /** How many, side by side; default 1. */
  readonly count?: number;
  readonly verifies?: Verifies;
  readonly replays?: Replays;
  /** Who is asked in them; default: who the runner asks. */
  readonly approver?: Approver;
  readonly by?: Requester;
  /** Identities that take part in the source: on record in each fork before anything of it is there. */
  readonly participants?: readonly string[];
  readonly onProgress?: (line: string) => void;
  readonly signal?: AbortSignal;
}

const forksMax = 64;

/**
 * The straight path: open, call, diff, close. One runner per process and data directory; it owns no rule of its own,
 * it puts the nouns in order and is the only one that writes journals.
 */
export class Runner {
  readonly #parts: RunnerParts;
  readonly #opener: Opener;
  /** Open ones. */
  readonly #runs = new Set<Run>();
  /** Images that the engine is being asked for. */
  readonly #resolving = new Map<string, Promise<string>>();

  private constructor(parts: RunnerParts) {
    this.#parts = parts;
    this.#opener = new Opener(parts);
  }

  static async create(engine: Engine, dataDir: DataDir, options: RunnerOptions = {}): Promise<Runner> {
    const { id: instance } = await dataDir.registerInstance();
    const blobs = await BlobStore.open(dataDir.blobsDir);
    const placements = await Placements.open(engine, dataDir, blobs);
    const opens = new Opens(options.opens);
    const pool = await poolOf(engine, opens, options);
    const installed = new InstalledMemory(dataDir.path);
    const parts = { engine, dataDir, blobs, placements, instance, opens, installed, options };
    return new Runner({ ...parts, ...(pool && { pool }) });
  }

  /** Undefined where nothing is made ahead. */
  get poolStats(): PoolStats | undefined {
    return this.#parts.pool?.stats();
  }

  get opensStats(): OpensStats {
    return this.#parts.opens.stats();
  }

  /** Everything or nothing: on any failure no container is left and the journal says why. */
  async open(asked: OpenRequest): Promise<Run> {
    return this.#keep(await this.#opener.open(await this.#plan(asked)));
  }

  #keep(run: Run): Run {
    this.#runs.add(run);
    void run.over.then(() => this.#runs.delete(run));
    return run;
  }

  /** So many sandboxes for such runs are kept ready from now on, within the bound of the pool; others come by themselves. */
  async keepReady(asked: OpenRequest, count: number): Promise<void> {
    await this.#opener.keepReady(await this.#plan(asked), count);
  }

  async #plan(asked: OpenRequest): Promise<Planned> {
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
    const [image, facts] = await Promise.all([this.#resolve(reference, request.policy), this.#parts.engine.describe()]);
    const { id = newId() } = request;
    const place = async (): Promise<Placement> => {
      const source =
        request.base === undefined ? await select(request, scope, this.#parts.placements) : { base: request.base };
      const placed = placementFor({ runId: id, sandbox: newId() }, request.policy, scope, image, request);
      const placement = await this.#parts.placements.place(source, placed);
      const size = `${placement.files} files, ${Math.ceil(placement.sizeBytes / 1024)} KiB`;
      request.onProgress?.(`workspace: ${size}${'base' in source ? '' : leftOutText(source)}`);
      return placement;
    };
    const quick = request.workspace === undefined && policy.inputs.length === 0;
    return { ...request, id, image, scope, facts, place, quick };
  }

  /**
   * New runs that start where the source stands: same policy, image and base, its changes laid over it; each with its own
   * sandbox, journal and budget. All or none.
   */
  async fork(source: Run | RunSnapshot, request: ForkRequest = {}): Promise<readonly Run[]> {
    const { count = 1, intent, taskClass, ...rest } = request;
    if (!Number.isInteger(count) || count < 1 || count > forksMax)
      throw new RunnerError('invalid_request', `${count} forks were asked for; 1 to ${forksMax} at once are possible`);
    // Whoever verifies or replays is no agent: the policy is just the one that is given.
    const isOurs = rest.verifies !== undefined || rest.replays !== undefined;
    const policy = isOurs ? source.policy : forkPolicy(source, { taskClass, intent });
    const scope = Scope.compile(policy.policy.files);
    const known = taskClass !== undefined && source instanceof Run ? await source.snapshot() : source;
    if (taskClass !== undefined && !(known instanceof Run)) refuseUnseen(known, policy);
    const origin = originOf(known);
    const { base, image: wanted } = source;
    const found = Promise.all([this.#resolve(wanted.reference, policy), this.#parts.engine.describe()]);
    // A snapshot that is refused at once refuses the fork before anything is made.
    const [image, facts] = await Promise.race([found, origin.snapshot.then(() => found)]);
    if (image.id !== wanted.id)
      throw new RunnerError(
        'image_not_allowed',
        `run ${origin.forkedFrom.run} used image ${wanted.reference} as ${wanted.id}, which is ${image.id} now; a fork would start elsewhere`,
      );
    const opened = await Promise.allSettled(
      Array.from({ length: count }, async () => {
        const id = newId();
        const asked = { ...rest, scratch: origin.scratch };
        const placed = placementFor({ runId: id, sandbox: newId() }, policy, scope, image, asked);
        const place = (): Promise<Placement> => this.#parts.placements.reopen(base, placed);
        const quick = policy.policy.inputs.length === 0;
        return this.#opener.open({ ...rest, id, policy, image, scope, facts, place, quick, origin });
      }),
    );
    const runs = opened.flatMap((fork) => (fork.status === 'fulfilled' ? [fork.value] : []));
    const failed = opened.find((fork) => fork.status === 'rejected');
    if (failed === undefined) return runs.map((run) => this.#keep(run));
    await Promise.allSettled(runs.map((run) => run.close('failed', 'another fork did not open')));
    throw failed.reason;
  }

  /** The environment where the policy has one, built from these very files; else the first image. */
  async #defaultImage({ policy: { policy }, workspace }: OpenRequest): Promise<string> {
    if (policy.environment === undefined) return policy.images[0] ?? 'base';
    const { name } = await this.findEnvironment(policy, workspace);
    if ((await findEnvironmentLock(this.#parts.dataDir.path, name)) !== undefined) return name;
    const from = workspace === undefined ? '' : ` -w ${workspace}`;
    throw new RunnerError(
      'image_not_found',
      `the environment ${name} of policy ${policy.name} is not built for these files; run: glovebox env build -p POLICY${from}`,
    );
  }

  findEnvironment(policy: Policy, workspace: string | undefined): Promise<Wanted> {
    return findWanted(policy, workspace, {
      engine: this.#parts.engine,
      dataDir: this.#parts.dataDir.path,
      blobs: this.#parts.blobs,
    });
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
      engine: this.#parts.engine,
      dataDir: this.#parts.dataDir.path,
      blobs: this.#parts.blobs,
      owner: this.#parts.dataDir.owner,
      instance: this.#parts.instance,
      reach: this.#parts.options,
    });
  }

  /** Fifty who ask for one image at once are one question to the engine. */
  async #resolve(reference: string, { policy }: LoadedPolicy): Promise<RunImage> {
    const policyIds = policy.images.filter((name) => digestPattern.test(name));
    const accepted = await readAccepted(this.#parts.dataDir.path);
    const { engine, pool } = this.#parts;
    const known = findAccepted(accepted, reference, policyIds);
    if (known !== undefined && pool?.has(({ image }) => image === known) === true)
      return { reference, id: known as Digest };
    const key = canonicalJson([reference, policyIds, accepted]);
    const asking = this.#resolving.get(key) ?? resolveImage(engine, accepted, reference, policyIds);
    this.#resolving.set(key, asking);
    try {
      return { reference, id: (await asking) as Digest };
    } finally {
      if (this.#resolving.get(key) === asking) this.#resolving.delete(key);
    }
  }

  /** Closes what a runner that died has left: containers, and journals without an end. Safe at any time, and twice. */
  recover(options?: { dryRun?: boolean }): Promise<Recovered> {
    return recover(this.#parts.engine, this.#parts.dataDir, options);
  }

  /**
   * A run whose runner died, living again: same sandbox, journal and budget. `run_not_open`: it is closed;
   * `journal_unavailable`: somebody who lives has it; `sandbox_lost` and what is wrong with its directory: close it as lost.
   */
  async resume(id: string, options: ResumeOptions = {}): Promise<Run> {
    return this.#keep(await resumeRun(this.#parts, id, options));
  }

  /** What cannot be resumed: its sandbox is removed and its journal closed. May be called twice. */
  closeLost(id: string, reason: string): Promise<void> {
    return closeLostRun(this.#parts.engine, this.#parts.dataDir, id, reason);
  }

  /** Its open runs are left running, for the next runner to resume; what waits here for a call is told `draining`. */
  async release(): Promise<void> {
    const left = await Promise.allSettled([...this.#runs].map((run) => run.handOver()));
    await this.close();
    const failed = left.find((each) => each.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  /** Its runs are closed before, one by one. What was made ahead goes with it. */
  async close(): Promise<void> {
    await this.#parts.pool?.drain();
    await this.#opener.tidied();
    await this.#parts.dataDir.forgetInstance(this.#parts.instance);
  }
}

/** So long a sandbox that is to be made ahead waits for opens to be done, one after the other. */
const patienceMs = 3_000;
/** The first call of a run that was just opened goes first too. */
const firstCallMs = 50;

async function poolOf(
  engine: Engine,
  opens: Opens,
  { pool: wanted }: RunnerOptions,
): Promise<WarmPool<WarmSandbox> | undefined> {
  if (wanted === undefined || wanted.warmMax < 1) return undefined;
  const memoryBytes = wanted.memoryBytes ?? Math.floor((await engine.describe()).memoryBytes / 2);
  const quiet = async (): Promise<void> => {
    await opens.quiet(patienceMs);
    await sleep(firstCallMs);
    await opens.quiet(patienceMs);
  };
  return new WarmPool<WarmSandbox>({ ...wanted, memoryBytes }, { quiet });
}

/** The same policy, narrowed by what this run is for. */
function policyWith(policy: LoadedPolicy, asked: string | IntentInput | undefined): LoadedPolicy {
  if (asked === undefined) return policy;
  const intent = typeof asked === 'string' ? { summary: asked } : asked;
  return recompile(policy, { ...policy.task, intent: { ...policy.task.intent, ...intent } });
}
