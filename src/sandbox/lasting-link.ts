import { setTimeout as sleep } from 'node:timers/promises';
import type { ContainerStream, Engine } from '../engine/engine.ts';
import { messageOf, RunnerError } from '../errors.ts';
import type { Welcome } from './arrivals.ts';
import { resume, type Joined } from './join.ts';
import type { Link } from './link.ts';
import { asLoss } from './loss.ts';
import { isSame, refuseRestarted } from './same-container.ts';
import { defaults, linkOptions, type SandboxOptions } from './sandbox-options.ts';

export interface LastingLinkParts {
  readonly engine: Pick<Engine, 'attach' | 'inspect'>;
  readonly containerId: string;
  readonly startedAt: string | undefined;
  readonly options: Pick<SandboxOptions, 'orphanMs' | 'openTimeoutMs' | 'engineAwayMs'>;
  /** Before a broken stream is joined again: what it has brought is on disk once this resolves. */
  readonly settle: () => Promise<unknown>;
  /** It is joined again; PID 1 says what it still has. */
  readonly goOn: (link: Link, welcome: Welcome) => void;
  /** It cannot be. Once at most. */
  readonly giveUp: (reason: RunnerError) => void;
}

const reattachTimeoutMs = 5_000;
const reattachTries = 3;
const engineRetryMs = 250;

/** The link of one sandbox from its first stream to its last: one that breaks while PID 1 lives is joined again. */
export class LastingLink {
  readonly #parts: LastingLinkParts;
  #link: Link;
  #joining: Promise<void> | undefined;
  #over: 'left' | 'shut down' | undefined;

  constructor(link: Link, parts: LastingLinkParts) {
    this.#parts = parts;
    this.#link = link;
    this.#watch(link);
  }

  /** Waits while it is being joined again. Of one that is given up or destroyed it is the last there was. */
  async current(): Promise<Link> {
    if (this.#link.end !== undefined) await this.#link.lost; // Whoever asks at once: joining begins a moment later.
    while (this.#joining !== undefined) await this.#joining;
    return this.#link;
  }

  /** No stream is joined from here on; this one stays as it is, and PID 1 too. */
  leave(): void {
    this.#over ??= 'left';
  }

  /** Everything inside is killed and PID 1 exits. */
  shutdown(): void {
    this.#over ??= 'shut down';
    this.#link.shutdown();
  }

  destroy(reason: RunnerError): void {
    this.leave();
    this.#link.destroy(reason);
  }

  #watch(link: Link): void {
    void link.lost.then((reason) => {
      if (this.#over !== undefined || link !== this.#link) return;
      if (reason.code !== 'sandbox_lost' || link.final) return this.#giveUp(reason);
      this.#joining = this.#reattach(reason).finally(() => {
        this.#joining = undefined;
      });
    });
  }

  #giveUp(reason: RunnerError): void {
    if (this.#over === undefined) this.#parts.giveUp(reason);
  }

  /** The stream is gone: with PID 1, or only the connection to it? Never rejects. */
  async #reattach(reason: RunnerError): Promise<void> {
    try {
      await this.#parts.settle();
      const endMs = performance.now() + (this.#parts.options.engineAwayMs ?? defaults.engineAwayMs);
      for (let tries = 0; tries < reattachTries && this.#over === undefined;) {
        const status = await this.#status(endMs);
        if (status === 'unknown') continue;
        if (status !== 'running') break;
        if (await this.#joinAgain()) return;
        tries++;
      }
      this.#giveUp(reason);
    } catch (error) {
      this.#giveUp(new RunnerError('sandbox_lost', `${reason.message}; ${messageOf(error)}`, { cause: error }));
    }
  }

  /** An engine that restarts leaves its containers running: it is given some time to come back. */
  async #status(endMs: number): Promise<'running' | 'gone' | 'unknown'> {
    const { engine, containerId, startedAt } = this.#parts;
    try {
      const container = await engine.inspect(containerId);
      return container?.status === 'running' && isSame(container, startedAt) ? 'running' : 'gone';
    } catch (error) {
      if (!(error instanceof RunnerError && error.retryable) || performance.now() > endMs) throw error;
      await sleep(engineRetryMs);
      return 'unknown';
    }
  }

  /** False when it may be tried once more. */
  async #joinAgain(): Promise<boolean> {
    const { engine, containerId, startedAt, options } = this.#parts;
    let stream: ContainerStream | undefined;
    try {
      stream = await engine.attach(containerId);
    } catch {
      return false;
    }
    const startMs = performance.now();
    let joined: Joined | undefined;
    try {
      joined = await resume(stream, { ...linkOptions(options), timeoutMs: reattachTimeoutMs });
      await refuseRestarted(engine, containerId, startedAt);
      this.#take(joined);
      return true;
    } catch (error) {
      joined?.link.destroy(asLoss(error));
      stream.duplex.destroy();
      if (performance.now() - startMs > reattachTimeoutMs - 100) throw error;
      return false;
    }
  }

  #take({ link, welcome }: Joined): void {
    if (this.#over === undefined) {
      this.#link = link;
      this.#parts.goOn(link, welcome);
      this.#watch(link);
      return;
    }
    // It came too late: whoever left the sandbox running leaves it to the next runner as it is.
    if (this.#over === 'shut down') link.shutdown();
    link.destroy(new RunnerError('run_not_open', 'nobody here uses this sandbox any more'));
  }
}
