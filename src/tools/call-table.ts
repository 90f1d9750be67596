import { RunnerError } from '../errors.ts';
import type { StartedCall } from './started-call.ts';

const endedMax = 10_000;

/** The exec calls of a sandbox, running and ended, by id. */
export class CallTable {
  readonly #calls = new Map<string, StartedCall>();

  /** Also for calls found again after the runner was restarted. */
  add(call: StartedCall): void {
    this.#calls.set(call.id, call);
    if (this.#calls.size > endedMax) this.#forgetOldestEnded();
  }

  get(callId: string): StartedCall {
    const call = this.#calls.get(callId);
    if (call === undefined) {
      throw new RunnerError(
        'call_not_found',
        `no exec call ${callId} in this sandbox; exec_list lists those that there are`,
      );
    }
    return call;
  }

  list(): readonly StartedCall[] {
    return [...this.#calls.values()];
  }

  #forgetOldestEnded(): void {
    for (const [id, call] of this.#calls) {
      if (call.result !== undefined) {
        this.#calls.delete(id);
        return;
      }
    }
  }
}
