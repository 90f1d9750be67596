import type { DataDir } from '../data-dir/data-dir.ts';
import type { Engine } from '../engine/engine.ts';
import { listImages } from '../images/list.ts';
import { Runner, type RunnerOptions } from '../runner.ts';
import type { Durability } from '../store/database.ts';
import { syncRuns } from '../store/rebuild.ts';
import { Store } from '../store/store.ts';
import { ApprovalDesk } from './approval-desk.ts';
import { PolicySource } from './policy-source.ts';
import { reconcile } from './reconcile.ts';
import { Service, type ServiceOptions } from './service.ts';
import { verifyRun } from '../verify/verify.ts';
import { ServiceLock } from './service-lock.ts';
import type { Verify } from './verification-desk.ts';

export interface OpenServiceOptions extends ServiceOptions {
  readonly engine: Engine;
  readonly dataDir: DataDir;
  /** Of the runner; whom it asks is the service's to say. */
  readonly runner?: Omit<RunnerOptions, 'approver'>;
  /** Directory of the policies that are offered; default the shipped ones. */
  readonly policies?: string | undefined;
  /** Default `process`. */
  readonly durability?: Durability | undefined;
  /** Takes up sandboxes of which the store has never heard, however many they are. */
  readonly takeStrangers?: boolean | undefined;
  readonly onProgress?: (line: string) => void;
}

export interface OpenedService {
  readonly service: Service;
  readonly runner: Runner;
  readonly store: Store;
  /** Runs that are open go on without it, for the next service. Twice is fine. */
  leave(): Promise<void>;
  /** After `drain`. Twice is fine. */
  close(): Promise<void>;
}

/**
 * The service of a data directory, put together: alone on it, with what a service before it has left brought in line, before it
 * answers anything. Throws `data_dir_in_use`, `data_dir_unusable`, and what the engine throws.
 */
export async function openService(options: OpenServiceOptions): Promise<OpenedService> {
  const { engine, dataDir, onProgress } = options;
  const policies = await PolicySource.open(options.policies);
  const lock = await ServiceLock.acquire(dataDir.path);
  const closing: (() => Promise<void> | void)[] = [() => lock.release()];
  const closeAll = async (): Promise<void> => {
    for (const close of closing.splice(0).reverse()) await close();
  };
  try {
    const store = Store.open(dataDir.path, options.durability === undefined ? {} : { durability: options.durability });
    closing.push(() => store.close());
    const desk = new ApprovalDesk(store);
    const runner = await Runner.create(engine, dataDir, {
      fingerprints: true,
      ...options.runner,
      approver: desk.ask,
      durability: options.durability,
    });
    closing.push(() => runner.close());
    await syncRuns(store, dataDir);
    const { resumed, lost } = await reconcile({
      runner,
      engine,
      dataDir,
      known: (id) => store.runs.find(id) !== undefined,
      ...(options.takeStrangers === undefined ? {} : { takeStrangers: options.takeStrangers }),
      ...(onProgress === undefined ? {} : { onProgress }),
    });
    const images = async () =>
      (await listImages({ engine, dataDir: dataDir.path })).map(({ name, id, state, bytes }) => ({
        name,
        id: id ?? null,
        state,
        bytes: bytes ?? null,
      }));
    const probe = () => engine.list({ 'glovebox.owner': dataDir.owner });
    const sentPolicies = options.runner?.sentPolicies ?? [];
    const verify: Verify = (run, how) => verifyRun({ runner, dataDir }, run, how);
    const onTrouble = (line: string): void => onProgress?.(line);
    const parts = { runner, desk, dataDir, store, policies, resumed, lost, images, probe, verify, onTrouble };
    const service = await Service.open({ ...parts, options: { sentPolicies, ...options } });
    return {
      service,
      runner,
      store,
      close: closeAll,
      leave: async () => {
        await runner.release();
        await closeAll();
      },
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}
