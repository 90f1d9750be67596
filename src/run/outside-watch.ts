import type { Engine } from '../engine/engine.ts';
import type { ContainerReading } from '../engine/reading.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import type { RunDrift } from './drift.ts';

/** Asks the engine what somebody else has made of a sandbox since it was opened; the seal watch says when. */
export class OutsideWatch {
  readonly #engine: Pick<Engine, 'read'>;
  readonly #sandbox: Pick<Sandbox, 'containerId' | 'state'>;
  readonly #drift: Pick<RunDrift, 'outside' | 'unlooked'>;
  readonly #before: Promise<ContainerReading | undefined>;

  constructor(
    engine: Pick<Engine, 'read'>,
    sandbox: Pick<Sandbox, 'containerId' | 'state'>,
    drift: Pick<RunDrift, 'outside' | 'unlooked'>,
  ) {
    this.#engine = engine;
    this.#sandbox = sandbox;
    this.#drift = drift;
    this.#before = engine.read(sandbox.containerId);
    this.#before.catch(() => undefined); // heard of when it is looked
  }

  /** An engine that does not answer now is asked again; only the last look has to have its answer. Never rejects. */
  async look(isLast: boolean): Promise<void> {
    try {
      const before = await this.#before;
      const now = await this.#engine.read(this.#sandbox.containerId);
      // A sandbox that was lost meanwhile is gone because this runner has removed it.
      if (before !== undefined && this.#sandbox.state === 'running') await this.#drift.outside(before, now);
    } catch (error) {
      if (isLast) await this.#drift.unlooked(error);
    }
  }
}
