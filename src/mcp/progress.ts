import { setTimeout as sleep } from 'node:timers/promises';
import type { Notification, ProgressToken } from '@modelcontextprotocol/server';
import { printable } from '../journal/printable.ts';
import type { DelegatedRun } from '../run/delegated-run.ts';

const everyMs = 500;
const quietMs = 10_000;
const messageBytesMax = 2_000;

export interface ProgressOf {
  readonly run: DelegatedRun;
  /** The command whose output is told. */
  readonly callId: string;
  readonly fromOffset: number;
  readonly token: ProgressToken;
  readonly notify: (notification: Notification) => Promise<void>;
}

/**
 * Tells what a command prints while its caller waits: at most twice a second and the last 2,000 bytes each time; every ten seconds
 * where it prints nothing, so that nobody takes it for dead. `progress` is in seconds.
 */
export class Progress {
  readonly #of: ProgressOf;
  readonly #startedMs = performance.now();
  readonly #stopping = new AbortController();

  constructor(of: ProgressOf) {
    this.#of = of;
    void this.#follow().catch(() => undefined); // who went away is told by its connection
  }

  /** Nothing is told after this. */
  stop(): void {
    this.#stopping.abort();
  }

  async #follow(): Promise<void> {
    const { run, callId } = this.#of;
    let offset = this.#of.fromOffset;
    let toldMs = performance.now();
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await sleep(everyMs, undefined, { signal });
      const seen = await run.output(callId, offset, 0, 0);
      const totalBytes = seen?.totalBytes ?? 0;
      if (totalBytes <= offset && performance.now() - toldMs < quietMs) continue;
      const from = Math.max(offset, totalBytes - messageBytesMax);
      const part = totalBytes > offset ? await run.output(callId, from, messageBytesMax, 0) : undefined;
      if (signal.aborted) return;
      offset = Math.max(offset, part?.nextOffset ?? offset);
      toldMs = performance.now();
      await this.#tell(part?.bytes.toString('utf8') ?? '');
    }
  }

  async #tell(output: string): Promise<void> {
    const { token, notify } = this.#of;
    const progress = Math.round(performance.now() - this.#startedMs) / 1000;
    const message = output === '' ? {} : { message: printable(output, { newlines: 'keep' }) };
    const params = { progressToken: token, progress, ...message };
    await notify({ method: 'notifications/progress', params });
  }
}
