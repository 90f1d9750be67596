import { Deadline } from '../deadline.ts';

const probeMs = 3_000;
const keptMs = 1_000;

/** Whether the engine answers. However many ask, it is asked once at a time, and not again within a second of its answer. */
export class EngineProbe {
  readonly #ask: () => Promise<unknown>;
  readonly #monotonicMs: () => number;
  #last: Promise<number> | undefined;
  /** Of the last one; undefined while it is under way. */
  #untilMs: number | undefined;

  constructor(ask: () => Promise<unknown>, monotonicMs: () => number = () => performance.now()) {
    this.#ask = ask;
    this.#monotonicMs = monotonicMs;
  }

  /** How long the engine took, in milliseconds, at most a second ago. Throws `engine_timeout` and what the engine throws. */
  answers(): Promise<number> {
    const isOver = this.#untilMs !== undefined && this.#untilMs <= this.#monotonicMs();
    if (this.#last === undefined || isOver) {
      this.#untilMs = undefined;
      this.#last = this.#probe().finally(() => (this.#untilMs = this.#monotonicMs() + keptMs));
    }
    return this.#last;
  }

  async #probe(): Promise<number> {
    const began = this.#monotonicMs();
    await Deadline.run(probeMs, 'asking the engine whether it answers', () => this.#ask());
    return this.#monotonicMs() - began;
  }
}
