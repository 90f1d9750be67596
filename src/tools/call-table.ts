import { RunnerError } from '../errors.ts';
import type { StartedCall } from './started-call.ts';

/** Ended calls that are at hand; older ones are looked for on disk. */
const endedMax = 64;

/** The exec calls of a sandbox by id: those that run, and the latest that have ended. */
export class CallTable<Call extends StartedCall = StartedCall> {
  readonly #calls = new Map<string, Call>();
  #kept = 0;

  /** Also for calls found again after the runner was restarted. */
  add(call: Call): void {
    this.#calls.set(call.id, call);
    if (this.#calls.size > endedMax + this.#kept) this.#forgetEnded();
  }

  /** Undefined also for one that ended long ago. */
  find(callId: string): Call | undefined {
    return this.#calls.get(callId);
  }

  list(): readonly Call[] {
    return [...this.#calls.values()];
  }

  /** Down to half of them at a time, oldest first; what is on no disk stays. */
  #forgetEnded(): void {
    const ended = this.list().filter(({ onDisk }) => onDisk);
    for (const { id } of ended.slice(0, Math.max(0, ended.length - endedMax / 2))) this.#calls.delete(id);
    this.#kept = Math.max(0, this.#calls.size - endedMax / 2);
  }
}

export function noSuchCall(callId: string): RunnerError {
  return new RunnerError(
    'call_not_found',
    `no exec call ${callId} in this sandbox; exec_list lists those that run, and the latest that have ended`,
  );
}
