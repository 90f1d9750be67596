import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import type { WarmDir } from '../data-dir/warm-dirs.ts';
import { canonicalJson, digestOf, type Digest } from '../digest.ts';
import type { Engine } from '../engine/engine.ts';
import type { ContainerReading } from '../engine/reading.ts';
import { keepImageTrust } from '../egress/image-trust.ts';
import { proveIsolation, type IsolationProof } from '../egress/self-test.ts';
import { RunnerError } from '../errors.ts';
import { failpoint } from '../failpoint.ts';
import { letsOut } from '../fencing.ts';
import { newId } from '../ids.ts';
import type { Alike, Placement } from '../placement.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import { makeSandbox } from '../run/make-sandbox.ts';
import { sandboxSpec } from '../run/sandbox-spec.ts';
import { containerBody, type SandboxSpec } from '../sandbox/container-body.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import { verifyUnused } from '../sandbox/verify-unused.ts';
import { makeSnapshotRepository } from '../workspace/snapshot-repository.ts';
import type { Kept, Recipe } from './pool.ts';

/** What warm sandboxes are made with. */
export interface WarmHost {
  readonly engine: Engine;
  readonly dataDir: DataDir;
  /** Of this process, in the data directory. */
  readonly instance: string;
  readonly engineAwayMs?: number;
}

/** A run that is being opened, as far as that says which sandbox would do for it. */
export interface Wanted {
  readonly image: Digest;
  readonly policy: LoadedPolicy;
  readonly placement: Placement;
}

/**
 * How a sandbox for such a run is made before anybody asks; undefined where there cannot be two of a kind. The key is a digest of
 * the whole container, but for its names and labels, and of what is in its workspace.
 */
export function warmRecipe(wanted: Wanted, host: WarmHost): Recipe<WarmSandbox> | undefined {
  const { image, policy, placement } = wanted;
  const { alike } = placement;
  if (alike === undefined) return undefined;
  const { engine, dataDir, instance } = host;
  const key = keyOf(specFor(wanted, host), policy, alike);
  const { memoryBytes } = policy.policy.limits;
  const make = async (): Promise<WarmSandbox> => {
    const again = await alike.place(newId());
    const dir = await dataDir.warm.create(instance, again.sandbox);
    const spec = specFor({ image, policy, placement: again }, host);
    try {
      if (again.alike === undefined || keyOf(spec, policy, again.alike) !== key)
        throw new RunnerError(
          'internal',
          'what was to be made ahead has changed meanwhile; it is made when it is wanted',
        );
      return await WarmSandbox.make(engine, { spec, policy, placement: again, warm: { instance, dir }, host });
    } catch (error) {
      await again.discard(dir).catch(() => undefined); // what is left of it is found by `gc`
      await dataDir.warm.remove({ instance, dir }).catch(() => undefined);
      throw error;
    }
  };
  return { key, memoryBytes, make };
}

function specFor({ image, policy, placement }: Wanted, { dataDir: { owner }, instance }: WarmHost): SandboxSpec {
  return sandboxSpec({ image, policy, placement, owner, instance });
}

/** A supervisor's volume has the same content for all that one process makes: its name need not be known. */
function keyOf(spec: SandboxSpec, { policy: { files } }: LoadedPolicy, { kind }: Alike): Digest {
  const { name: _, labels: __, volumes, ...body } = containerBody(spec, 'supervisor');
  const mounts = volumes.map(({ kind: of, target }) => [of, target]);
  return digestOf(canonicalJson({ body, mounts, workspace: kind, repository: files.git }));
}

interface Parts {
  readonly spec: SandboxSpec;
  readonly policy: LoadedPolicy;
  readonly placement: Placement;
  readonly warm: WarmDir;
  readonly host: WarmHost;
}

/**
 * A sandbox in which nothing was ever run for anybody, with its workspace, that waits for a run. Promises:
 *  - it was made just as the run itself would have, and proven to be sealed; `check` looks whether it still is so;
 *  - once handed over it is the run's alone, and what there is of it in the data directory lies with the run;
 *  - what a runner leaves of it that dies is found by `gc`.
 */
export class WarmSandbox implements Kept {
  readonly sandbox: Sandbox;
  readonly #parts: Parts;
  #isolation: IsolationProof | undefined;
  #reading: ContainerReading | undefined;
  #discarded: Promise<void> | undefined;
  #tidied: Promise<void> = Promise.resolve();

  private constructor(sandbox: Sandbox, parts: Parts) {
    this.sandbox = sandbox;
    this.#parts = parts;
  }

  /** On failure its placement and its directory are the caller's to remove. */
  static async make(engine: Engine, parts: Parts): Promise<WarmSandbox> {
    const { spec, policy, placement, warm, host } = parts;
    const { outputPerRunBytes: outputMaxBytes } = policy.policy.limits;
    const away = host.engineAwayMs === undefined ? {} : { engineAwayMs: host.engineAwayMs };
    const options = { outputMaxBytes, ...away };
    const sandbox = await makeSandbox(engine, { spec, placement, dir: warm.dir, options });
    try {
      await proveIsolation(sandbox, 'refused');
      if (!letsOut(policy.policy.egress)) await keepImageTrust(sandbox.files);
      if (policy.policy.files.git) await makeSnapshotRepository(sandbox);
      await failpoint('pool.made');
      return new WarmSandbox(sandbox, parts);
    } catch (error) {
      await sandbox.close().catch(() => undefined); // what is left of it is found by its labels
      throw error;
    }
  }

  get lost(): Promise<unknown> {
    return this.sandbox.lost;
  }

  /** That it has no network is shown once more, unless its fence will have to show it with names that are answered. */
  async check(): Promise<void> {
    const { host, policy } = this.#parts;
    this.#reading = await verifyUnused(host.engine, this.sandbox, async () => {
      if (!letsOut(policy.policy.egress)) this.#isolation = await proveIsolation(this.sandbox, 'refused');
    });
  }

  /** As `check` has shown it. */
  get isolation(): IsolationProof | undefined {
    return this.#isolation;
  }

  /** Likewise: what the engine has said of it. */
  get reading(): ContainerReading | undefined {
    return this.#reading;
  }

  get image(): string {
    return this.sandbox.spec.image;
  }

  /** Once it is handed over: resolves when nothing lies in its old place any more. */
  get tidied(): Promise<void> {
    return this.#tidied;
  }

  /** Of this run from here on, whose placement is of the same kind; `check` comes first. On failure nothing is left of it. */
  async handOver(dir: RunDir, placement: Placement, outputMaxBytes: number): Promise<Sandbox> {
    const { warm, host } = this.#parts;
    try {
      await failpoint('pool.taken');
      const { cleared } = await placement.takeOver(dir, this.#parts.placement, warm.dir);
      this.sandbox.moveTo(dir.callsDir, outputMaxBytes);
      this.#tidied = Promise.all([cleared, host.dataDir.warm.remove(warm)]).then(() => undefined);
      this.#tidied.catch(() => undefined); // whoever waits for it hears of it
      await failpoint('pool.moved');
    } catch (error) {
      await this.discard().catch(() => undefined); // what is left of it is found by `gc`
      throw error;
    }
    this.#discarded = Promise.resolve();
    return this.sandbox;
  }

  discard(): Promise<void> {
    this.#discarded ??= this.#discard().catch((error: unknown) => {
      this.#discarded = undefined;
      throw error;
    });
    return this.#discarded;
  }

  async #discard(): Promise<void> {
    const { placement, warm, host } = this.#parts;
    await this.sandbox.close().catch(() => host.engine.destroy(this.sandbox.containerId)); // closing is tried once
    await placement.discard(warm.dir);
    await host.dataDir.warm.remove(warm);
  }
}
