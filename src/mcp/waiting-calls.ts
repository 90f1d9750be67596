import type { ToolResult } from '../tools/tool-result.ts';

const waitingMax = 64;

/**
 * Ids of calls that wait for people, by what they ask: a model has no id to repeat, it makes the same call again. Of one caller: what
 * others ask is not theirs to go on with.
 */
export class WaitingCalls {
  readonly #ids = new Map<string, string>();

  find(asked: string): string | undefined {
    return this.#ids.get(asked);
  }

  /** What became of it this time. */
  note(asked: string, callId: string, { error }: ToolResult): void {
    this.#ids.delete(asked);
    if (error?.code !== 'waiting_for_approval') return;
    this.#ids.set(asked, callId);
    const [oldest] = this.#ids.keys();
    if (this.#ids.size > waitingMax && oldest !== undefined) this.#ids.delete(oldest);
  }
}
