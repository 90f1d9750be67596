import { setTimeout as sleep } from 'node:timers/promises';
import type { DataDir } from '../data-dir/data-dir.ts';
import { messageOf } from '../errors.ts';
import { carryOutRetention, type Retained } from '../retention/carry-out.ts';
import type { Store } from '../store/store.ts';

export interface RetentionSweepParts {
  readonly dataDir: DataDir;
  readonly store: Store;
  /** From the end of one sweep to the beginning of the next; default an hour. */
  readonly everyMs?: number;
  readonly onSwept?: (swept: Retained) => void;
  /** A sweep that did not happen, or not whole; the next one tries again. */
  readonly onFailed?: (reason: string) => void;
  /** Wall clock and one that never goes back; default the machine's. */
  readonly clocks?: { readonly wallMs: () => number; readonly monotonicMs: () => number };
}

/**
 * Carries retention out while a service runs: one sweep at a time, the first one after `everyMs`. What is kept for days is counted
 * by the wall clock. When that has jumped since the service began, nothing is removed until it is started again: somebody has to
 * look which of the two times is right.
 */
export class RetentionSweep {
  readonly #parts: RetentionSweepParts;
  readonly #stop = new AbortController();
  readonly #clocks: NonNullable<RetentionSweepParts['clocks']>;
  readonly #startedMs: { readonly wall: number; readonly monotonic: number };
  #running: Promise<void> | undefined;

  constructor(parts: RetentionSweepParts) {
    this.#parts = parts;
    this.#clocks = parts.clocks ?? { wallMs: () => Date.now(), monotonicMs: () => performance.now() };
    this.#startedMs = { wall: this.#clocks.wallMs(), monotonic: this.#clocks.monotonicMs() };
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** One sweep, now. Rejects with nothing: what fails is said. */
  async sweep(): Promise<void> {
    const { dataDir, store, onSwept, onFailed } = this.#parts;
    const nowMs = this.#clocks.wallMs();
    const jumpMs = nowMs - this.#startedMs.wall - (this.#clocks.monotonicMs() - this.#startedMs.monotonic);
    if (Math.abs(jumpMs) > jumpMaxMs) {
      const minutes = Math.round(jumpMs / 60_000);
      onFailed?.(
        `the clock was set by ${minutes} minutes since the service began: nothing is removed before it is started again`,
      );
      return;
    }
    try {
      const onRunRemoved = (id: string): void => store.runs.remove(id);
      const swept = await carryOutRetention(dataDir, { nowMs, onRunRemoved, signal: this.#stop.signal });
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

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await sleep(this.#parts.everyMs ?? 3_600_000, undefined, { signal, ref: false }).catch(() => undefined);
      if (!signal.aborted) await this.sweep();
    }
  }
}

const jumpMaxMs = 600_000;
