import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { RunnerError } from '../errors.ts';
import { isProcessAlive, thisProcess } from '../process-identity.ts';
import { FileLock } from '../store/file-lock.ts';

/** Which process serves a data directory, for people and for clients that look for it. The lock itself is the kernel's. */
const ServiceHolder = z
  .strictObject({
    pid: z.int().positive(),
    startTicks: z.string().regex(/^\d+$/),
    bootId: z.string().min(1).max(64),
    pidNamespace: z.string().max(32),
    since: z.iso.datetime(),
  })
  .readonly();
export type ServiceHolder = z.infer<typeof ServiceHolder>;

/** One service on a data directory: `service.lock` is held for as long as its process lives, `service.json` says which. */
export class ServiceLock {
  readonly #lock: FileLock;
  readonly #record: string;
  #held = true;

  private constructor(lock: FileLock, record: string) {
    this.#lock = lock;
    this.#record = record;
  }

  /** Throws `data_dir_in_use` while another one has it, also one in this process. */
  static async acquire(dataDir: string): Promise<ServiceLock> {
    const lock = FileLock.tryAcquire(join(dataDir, 'service.lock'));
    if (lock === undefined) throw await inUse(dataDir);
    const record = recordFile(dataDir);
    try {
      const holder: ServiceHolder = { ...thisProcess(), since: new Date().toISOString() };
      await writeFile(`${record}.new`, `${JSON.stringify(holder)}\n`, { mode: 0o600 });
      await rename(`${record}.new`, record);
      return new ServiceLock(lock, record);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /** Who serves it now; undefined when nobody does, or nobody that can be seen. */
  static async holder(dataDir: string): Promise<ServiceHolder | undefined> {
    const text = await readFile(recordFile(dataDir), 'utf8').catch(() => '');
    const parsed = ServiceHolder.safeParse(parseJson(text));
    return parsed.success && isProcessAlive(parsed.data) ? parsed.data : undefined;
  }

  /** Twice is fine. */
  async release(): Promise<void> {
    if (!this.#held) return; // by now the record may be somebody else's
    this.#held = false;
    await rm(this.#record, { force: true });
    this.#lock.release();
  }
}

function recordFile(dataDir: string): string {
  return join(dataDir, 'service.json');
}

async function inUse(dataDir: string): Promise<RunnerError> {
  const holder = await ServiceLock.holder(dataDir);
  const who = holder === undefined ? 'another process' : `process ${holder.pid}, since ${holder.since}`;
  return new RunnerError(
    'data_dir_in_use',
    `${dataDir} is served by ${who}; stop that one first, or serve another directory (GLOVEBOX_DATA)`,
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
