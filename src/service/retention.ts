import { setTimeout as sleep } from 'node:timers/promises';
import type { DataDir } from '../data-dir/data-dir.ts';
import { messageOf } from '../errors.ts';
import { momentNow, type Moment } from '../machine-clock.ts';
import { carryOutRetention, type Retained } from '../retention/carry-out.ts';
import { believeClock, whyClockIsDoubted } from '../retention/clock-record.ts';
import type { Store } from '../store/store.ts';

export interface RetentionSweepParts {
  readonly dataDir: DataDir;
  readonly store: Store;
  /** From the end of one sweep to the beginning of the next; default an hour. */
  readonly everyMs?: number;
  readonly onSwept?: (swept: Retained) => void;
  /** A sweep that did not happen, or not whole; the next one tries again. */
  readonly onFailed?: (reason: string) => void;
  /** Default: by the clocks of the machine. */
  readonly moment?: () => Moment;
}

/**
 * Carries retention out while a service runs: one sweep at a time, the first one after `everyMs`. What is kept for days is counted
 * by the wall clock. When that has jumped since the last sweep, of this service or of one before it, nothing is removed: somebody
 * has to look which of the two times is right.
 */
export class RetentionSweep {
  readonly #parts: RetentionSweepParts;
  readonly #stop = new AbortController();
  readonly #moment: () => Moment;
  #running: Promise<void> | undefined;

  constructor(parts: RetentionSweepParts) {
    this.#parts = parts;
    this.#moment = parts.moment ?? momentNow;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** One sweep, now. Rejects with nothing: what fails is said. */
  async sweep(): Promise<void> {
    const { dataDir, store, onSwept, onFailed } = this.#parts;
    const now = this.#moment();
    try {
      const doubt = await whyClockIsDoubted(dataDir, now);
      if (doubt !== undefined) return onFailed?.(doubt);
      await believeClock(dataDir, now);
      const onRunRemoved = (id: string): void => store.runs.remove(id);
      const swept = await carryOutRetention(dataDir, { nowMs: now.wallMs, onRunRemoved, signal: this.#stop.signal });
      onSwept?.(swept);
      for (const { id, reason } of swept.failed) onFailed?.(`${id}: ${reason}`);
    } catch (error) {
      onFailed?.(messageOf(error));
    }
  }

  /** The sweep that is under way ends after the removal that is. Twice is fine. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** From here on a jump is seen. */
  async #look(): Promise<void> {
    const { dataDir, onFailed } = this.#parts;
    const now = this.#moment();
    try {
      const doubt = await whyClockIsDoubted(dataDir, now);
      if (doubt === undefined) await believeClock(dataDir, now);
      else onFailed?.(doubt);
    } catch (error) {
      onFailed?.(messageOf(error));
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    await this.#look();
    while (!signal.aborted) {
      await sleep(this.#parts.everyMs ?? 3_600_000, undefined, { signal, ref: false }).catch(() => undefined);
      if (!signal.aborted) await this.sweep();
    }
  }
}
