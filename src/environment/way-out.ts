import { join } from 'node:path';
import { canonicalJson, digestOf } from '../digest.ts';
import { clientFolder } from '../egress/image-trust.ts';
import type { DeniedEgress } from '../egress/checkpoint/denials.ts';
import type { Fence } from '../egress/fence.ts';
import { SealWatch } from '../egress/seal-watch.ts';
import type { IsolationProof } from '../egress/self-test.ts';
import type { Engine, SetUpNetwork } from '../engine/engine.ts';
import { sandboxLabels } from '../engine/labels.ts';
import { RunnerError, messageOf } from '../errors.ts';
import { inJournal, letsOut, seal, type FencingParts } from '../fencing.ts';
import { newId } from '../ids.ts';
import type { Journal } from '../journal/writer.ts';
import type { Policy } from '../policy/policy.ts';
import type { SandboxLimits, SandboxSpec } from '../sandbox/container-body.ts';
import { Sandbox, type SandboxLoss } from '../sandbox/sandbox.ts';
import { FileError } from '../sandbox/spec.ts';
import { findAptFiles } from './debian-mirror.ts';
import type { Wanted } from './environment.ts';
import type { EnvironmentLock } from './lock.ts';
import { openRecord } from './record.ts';
import type { LaidFile } from './setup-script.ts';
import { ToldRecord } from './told-record.ts';

export interface WayOutParts {
  readonly engine: Engine;
  readonly dataDir: string;
  /** For the ledger of the sandbox; removed by the caller. */
  readonly directory: string;
  readonly policy: Policy;
  /** By which `gc` finds what a process that died has left. */
  readonly owner: string;
  readonly instance: string;
  /** How this machine gets to what the policy lets setup reach, and to secrets. */
  readonly reach?: Pick<FencingParts, 'network' | 'credentialCommands'>;
  /** Gives up: nothing is left but the record, and its reason is thrown. */
  readonly signal?: AbortSignal;
  readonly onProgress: (line: string) => void;
}

/**
 * How setup reaches what the policy names for it: a sandbox in which nothing is ever run, with the fence of any other, whose
 * loopback the setup container is given. Root of the setup container is in no process, mount or user's reach of the gateway.
 * Promises:
 *  - it is proven to be sealed before setup begins; nothing passes that is not on record;
 *  - when it is lost, `signal` ends the setup.
 */
export class WayOut {
  readonly network: SetUpNetwork;
  readonly signal: AbortSignal;
  /** What setup finds in its file system, for its time only. */
  readonly files: readonly LaidFile[];
  readonly #parts: Opened;
  readonly #startMs = performance.now();
  #over: () => void = () => undefined;

  private constructor(parts: Opened, files: readonly LaidFile[], signal: AbortSignal) {
    this.#parts = parts;
    this.network = { kind: 'sandbox', container: parts.sandbox.containerId };
    this.files = files;
    this.signal = signal;
    const gone = new Promise<void>((resolve) => {
      this.#over = resolve;
    });
    void parts.fence.calls.during(asCall, async () => ({ gone }));
  }

  /** Undefined where the policy lets setup reach nothing. On any failure nothing is left but the record, which says why. */
  static async open(wanted: Wanted, parts: WayOutParts): Promise<WayOut | undefined> {
    const { policy, engine, dataDir, directory } = parts;
    const egress = policy.environment?.egress;
    if (egress === undefined || !letsOut(egress)) return undefined;
    const spec = sandboxSpec(wanted, parts);
    const journal = await openRecord(dataDir, { wanted, policy, spec, facts: await engine.describe() });
    let sandbox: Sandbox | undefined;
    let fence: Fence | undefined;
    try {
      sandbox = await Sandbox.open(engine, spec, { directory: join(directory, 'sandbox') });
      const stopping = new AbortController();
      const giveUp = (): void => stopping.abort(parts.signal?.reason);
      parts.signal?.addEventListener('abort', giveUp, { once: true });
      if (parts.signal?.aborted === true) giveUp();
      const record = new ToldRecord(inJournal(journal), parts.onProgress);
      const stop = (reason: string): void =>
        stopping.abort(new RunnerError('budget_exhausted', `the setup of ${wanted.name} was stopped: ${reason}`));
      const sealed = await seal({ egress, credentials: policy.credentials }, { ...parts.reach, sandbox, record, stop });
      ({ fence } = sealed);
      if (fence === undefined) throw new RunnerError('internal', `no fence for ${wanted.name}, whose policy has one`);
      await journal.append(startedEntry(wanted, spec, sandbox.containerId, sealed.isolation));
      void sandbox.lost.then(({ code, reason }) => {
        if (code !== 'run_not_open')
          stopping.abort(new RunnerError(code, `the way out of setup is gone, and so it was ended: ${reason}`));
      });
      const files = await clientFiles(sandbox, egress);
      const watch = new SealWatch({ sandbox, onFound: (error) => stopping.abort(error) });
      const opened = { spec, sandbox, fence, journal, record, profiles: egress.profiles, watch };
      return new WayOut(opened, files, stopping.signal);
    } catch (error) {
      await closeAll({ sandbox, fence, journal }, { outcome: 'failed', summary: 'the way out did not open', ms: 0 });
      throw error;
    }
  }

  get env(): Readonly<Record<string, string>> {
    const apt = this.files.some(({ path }) => path === aptConfig) ? { APT_CONFIG: aptConfig } : {};
    return { ...this.#parts.fence.environment(asCall), ...apt };
  }

  /** For the lock; once it is closed. */
  get summary(): NonNullable<EnvironmentLock['egress']> {
    const { record, spec, profiles } = this.#parts;
    return { record: spec.id, profiles: [...profiles], reached: [...record.reached], refused: record.refused };
  }

  /** What was refused and what would allow it, a line for each host and reason; then what came to nothing in another way. */
  get denials(): readonly string[] {
    const lines = new Map<string, { readonly first: DeniedEgress; readonly count: number }>();
    for (const denied of this.#parts.fence.deniedOf(asCall)) {
      const key = JSON.stringify([denied.host, denied.port, denied.reason]);
      const { first = denied, count = 0 } = lines.get(key) ?? {};
      lines.set(key, { first, count: count + denied.count });
    }
    const denied = [...lines.values()].map(({ first: { host, port, method, path, reason, hint }, count }) => {
      const what = `${method === null ? '' : `${method} `}${host}${port === null ? '' : `:${port}`}${path ?? ''}`;
      const more = count > 1 ? ` and ${count - 1} more like it` : '';
      return `denied: ${what}${more}: ${reason}${hint === '' ? '' : `; ${hint}`}`;
    });
    return [...denied, ...this.#parts.record.failures];
  }

  /**
   * Nothing passes any more. Rejects when that cannot be recorded, and when there was another way out: then what was set up is
   * not to be kept.
   */
  async close(outcome: 'finished' | 'failed', summary: string): Promise<void> {
    this.#over();
    const ms = Math.round(performance.now() - this.#startMs);
    const { watch, sandbox } = this.#parts;
    const isSealed = outcome === 'failed' || (await watch.holds());
    await watch.stop();
    const unsealed = isSealed ? undefined : lossOf(await sandbox.lost);
    const end =
      unsealed === undefined ? { outcome, summary } : { outcome: 'failed' as const, summary: messageOf(unsealed) };
    const unrecorded = await closeAll(this.#parts, { ...end, ms });
    const wrong = unsealed ?? unrecorded;
    if (wrong !== undefined && outcome === 'finished') throw wrong;
  }
}

/** As which the record and the proxy's URL know setup. */
const asCall = 'setup';
const aptConfig = `${clientFolder}/apt.conf`;
const osReleaseMaxBytes = 64 * 1024;
const bundleMaxBytes = 4 * 1024 * 1024;

interface Opened {
  readonly spec: SandboxSpec;
  readonly sandbox: Sandbox;
  readonly fence: Fence;
  readonly journal: Journal;
  readonly record: ToldRecord;
  readonly profiles: readonly string[];
  readonly watch: SealWatch;
}

const MiB = 1024 * 1024;

/** Of a sandbox that holds a gateway and nothing else. */
const limits: Omit<SandboxLimits, 'cpus'> = {
  memoryBytes: 128 * MiB,
  pidsMax: 32,
  openFilesMax: 1024,
  workspaceBytes: MiB,
  workspaceInodes: 16,
  tmpBytes: MiB,
  homeBytes: MiB,
  shmBytes: MiB,
};

function sandboxSpec({ base }: Wanted, { policy, owner, instance }: WayOutParts): SandboxSpec {
  const id = newId();
  return {
    id,
    image: base.id,
    runtime: 'runc',
    egress: true,
    limits: { ...limits, cpus: policy.limits.cpus },
    labels: sandboxLabels({ owner, instance, sandbox: id, created: new Date() }),
  };
}

function startedEntry(wanted: Wanted, spec: SandboxSpec, container: string, isolation: IsolationProof) {
  const workspace = { digest: wanted.key, files: wanted.files.length, directories: 0, symlinks: 0, bytes: 0 };
  const specDigest = digestOf(canonicalJson(spec));
  return { type: 'sandbox.started', data: { sandbox: spec.id, container, specDigest, workspace, isolation } } as const;
}

/** What the fence has written for clients into its own sandbox, as setup is to find it too; and which mirrors apt is to ask. */
async function clientFiles(sandbox: Sandbox, { registries }: Policy['egress']): Promise<readonly LaidFile[]> {
  const names = ['ca.pem', 'wgetrc', 'apt.conf'] as const;
  const [bundle = '', wget = '', apt = ''] = await Promise.all(
    names.map((name) => readText(sandbox, `${clientFolder}/${name}`, bundleMaxBytes)),
  );
  const mirrors =
    registries.debian === undefined
      ? undefined
      : findAptFiles(registries.debian, await readText(sandbox, '/etc/os-release', osReleaseMaxBytes));
  return [
    { path: `${clientFolder}/ca.pem`, text: bundle },
    { path: `${clientFolder}/wgetrc`, text: wget },
    { path: aptConfig, text: `${apt}${mirrors?.configuration ?? ''}` },
    { path: `${clientFolder}/sources.list`, text: mirrors?.sources ?? '' },
  ].filter(({ text }) => text !== '');
}

/** Empty where it is not there. */
async function readText({ files }: Sandbox, path: string, maxBytes: number): Promise<string> {
  try {
    return (await files.read(path, { maxBytes })).bytes.toString('latin1');
  } catch (error) {
    if (error instanceof FileError) return '';
    throw error;
  }
}

function lossOf({ code, reason }: SandboxLoss): RunnerError {
  return new RunnerError(code, `what was set up is not kept: ${reason}`);
}

function asIs(error: unknown): unknown {
  return error;
}

interface End {
  readonly outcome: 'finished' | 'failed';
  readonly summary: string;
  readonly ms: number;
}

/** Never rejects; says what could not be recorded. What is left of the sandbox is found by its labels. */
async function closeAll(
  { sandbox, fence, journal }: { sandbox: Sandbox | undefined; fence: Fence | undefined; journal: Journal },
  end: End,
): Promise<unknown> {
  await fence?.close('the setup is over');
  await sandbox?.close().catch(() => undefined);
  const data = { ...end, calls: 0, denied: 0, outputBytes: 0 };
  const unrecorded = await journal.append({ type: 'run.closed', data }).then(() => undefined, asIs);
  await journal.close();
  return unrecorded;
}
