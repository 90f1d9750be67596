import { messageOf, RunnerError } from '../errors.ts';
import { findWaysOut, type Prober } from './self-test.ts';

/** What `Sandbox` has of it. */
export interface Watched extends Prober {
  readonly state: string;
  condemn(reason: string): void;
}

export interface SealWatchParts {
  readonly sandbox: Watched;
  /** The same look, at what the engine says of it; it never rejects. */
  readonly outside?: { look(isLast: boolean): Promise<void> } | undefined;
  /** Default 15,000. */
  readonly everyMs?: number | undefined;
  /** It had a way out, and is condemned (`isolation_unproven`). Told once; it is not looked again. */
  readonly onFound: (error: RunnerError) => void;
}

const everyMsByDefault = 15_000;

/**
 * Whoever holds the engine or its host can give a container a network after it was proven to have none. This looks again, from
 * inside, for as long as the sandbox is used. A look that finds no room inside says nothing: only the last one has to say something.
 */
export class SealWatch {
  readonly #parts: SealWatchParts;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<unknown> | undefined;
  #over = false;
  #held: Promise<boolean> | undefined;

  constructor(parts: SealWatchParts) {
    this.#parts = parts;
    this.#wait();
  }

  /** Looks once more, when nothing runs inside any more, and then never again. False: it is lost, if only by this look. */
  holds(): Promise<boolean> {
    this.#held ??= this.#lookLast();
    return this.#held;
  }

  async #lookLast(): Promise<boolean> {
    const { sandbox } = this.#parts;
    await this.stop();
    if (sandbox.state !== 'running') return false;
    const outside = this.#parts.outside?.look(true);
    try {
      const found = await findWaysOut(sandbox);
      await outside;
      if (found.length === 0) return true;
      sandbox.condemn(unsealed(found.join('; ')).message);
    } catch (error) {
      sandbox.condemn(unsealed(`nobody could look whether it still is: ${messageOf(error)}`).message);
    }
    return false;
  }

  async stop(): Promise<void> {
    this.#over = true;
    clearTimeout(this.#timer);
    await this.#looking;
  }

  #wait(): void {
    this.#timer = setTimeout(() => {
      this.#looking = Promise.all([this.#parts.outside?.look(false), this.#look()]);
    }, this.#parts.everyMs ?? everyMsByDefault).unref();
  }

  async #look(): Promise<void> {
    const found = await findWaysOut(this.#parts.sandbox).catch(() => []); // a lost sandbox is told of elsewhere
    if (this.#over || this.#parts.sandbox.state !== 'running') return;
    if (found.length === 0) return this.#wait();
    this.#over = true;
    const error = unsealed(found.join('; '));
    this.#parts.sandbox.condemn(error.message);
    this.#parts.onFound(error);
  }
}

function unsealed(what: string): RunnerError {
  const message = `The sandbox is not sealed any more: ${what}. It was destroyed, and nothing of it is taken over. See what attaches networks to containers of this engine.`;
  return new RunnerError('isolation_unproven', message);
}
