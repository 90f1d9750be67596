import type { Engine } from '../engine/engine.ts';
import type { ContainerReading } from '../engine/reading.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import type { RunDrift } from './drift.ts';

export interface OutsideWatchParts {
  readonly engine: Pick<Engine, 'read'>;
  readonly sandbox: Pick<Sandbox, 'containerId' | 'state'>;
  readonly drift: Pick<RunDrift, 'outside' | 'unlooked'>;
  /** How it was when it was proven to be what was asked for. Undefined: as it is now. */
  readonly before: ContainerReading | undefined;
}

/** Asks the engine what somebody else has made of a sandbox since it was opened; the seal watch says when. */
export class OutsideWatch {
  readonly #parts: OutsideWatchParts;
  readonly #before: Promise<ContainerReading | undefined>;

  constructor(parts: OutsideWatchParts) {
    this.#parts = parts;
    const { before, engine, sandbox } = parts;
    this.#before = before === undefined ? engine.read(sandbox.containerId) : Promise.resolve(before);
    this.#before.catch(() => undefined); // heard of when it is looked
  }

  /** An engine that does not answer now is asked again; only the last look has to have its answer. Never rejects. */
  async look(isLast: boolean): Promise<void> {
    const { engine, sandbox, drift } = this.#parts;
    try {
      const before = await this.#before;
      const now = await engine.read(sandbox.containerId);
      // A sandbox that was lost meanwhile is gone because this runner has removed it.
      if (before !== undefined && sandbox.state === 'running') await drift.outside(before, now);
    } catch (error) {
      if (isLast) await drift.unlooked(error);
    }
  }
}
