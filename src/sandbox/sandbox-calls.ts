import { awakeNow } from '../machine-clock.ts';
import { RunnerError } from '../errors.ts';
import { callIdPattern } from '../ids.ts';
import type { Welcome } from './arrivals.ts';
import { RunningCall, type CallHost } from './call.ts';
import type { OutcomeLimits } from './call-outcome.ts';
import { callTerms, encodeExec } from './exec-spec.ts';
import type { Ledger, LedgerLine } from './ledger.ts';
import { endLeftover } from './leftover.ts';
import type { Link } from './link.ts';
import type { ExecSpec } from './spec.ts';
import { commandsMax } from './wire.ts';

export interface SandboxCallsParts {
  readonly ledger: Ledger;
  readonly limits: OutcomeLimits;
  /** That of all of them together. */
  readonly outputMaxBytes: number;
  /** Of these, by calls that have ended. */
  readonly outputBytes: number;
  readonly takeNumber: () => number;
  /** The supervisor broke its word. */
  readonly giveUp: (reason: RunnerError) => void;
}

/**
 * The commands of one sandbox. Promises:
 *  - each runs once, whoever asks for its id again;
 *  - there are no more at a time than PID 1 has room for;
 *  - when a stream was joined again, each goes on where it stood, and what nobody here knows is ended.
 */
export class SandboxCalls {
  readonly #host: CallHost;
  readonly #takeNumber: () => number;
  readonly #running = new Map<number, RunningCall>();
  readonly #ids = new Set<string>();
  /** Ended, but the supervisor still has them: they count until they are on disk and released. */
  readonly #settling = new Set<RunningCall>();
  #outputMaxBytes: number;
  /** What a runner before, or a stream before, has left running. */
  #leftovers: Promise<unknown> = Promise.resolve();

  constructor({ ledger, limits, outputMaxBytes, outputBytes, takeNumber, giveUp }: SandboxCallsParts) {
    this.#takeNumber = takeNumber;
    this.#outputMaxBytes = outputMaxBytes;
    const budget = { leftBytes: outputMaxBytes - outputBytes };
    this.#host = { ledger, limits, budget, giveUp, forget: (call) => this.#forget(call) };
  }

  /** Those that need the sandbox still. */
  get all(): readonly RunningCall[] {
    return [...this.#running.values()];
  }

  find(number: number): RunningCall | undefined {
    return this.#running.get(number);
  }

  /** Resolves when nothing runs that nobody here knows. */
  get leftovers(): Promise<unknown> {
    return this.#leftovers;
  }

  async start(link: Link, callId: string, spec: ExecSpec): Promise<RunningCall> {
    if (!callIdPattern.test(callId))
      throw new RunnerError('invalid_request', `${JSON.stringify(callId)} cannot be a call's id`);
    while (this.#settling.size > 0 && this.#running.size + this.#settling.size >= commandsMax)
      await Promise.race([...this.#settling].map((call) => call.gone));
    this.#admit(callId); // until it is among those that run, nobody else has a turn
    const terms = callTerms(spec, this.#outputMaxBytes);
    const pieces = encodeExec(spec, terms);
    const identity = { id: callId, number: this.#takeNumber(), startedMs: awakeNow(), terms };
    const call = new RunningCall(this.#host, link, identity, false);
    this.#running.set(call.number, call);
    this.#ids.add(callId);
    const begun = call.begin(pieces, spec.stdin?.kind === 'bytes' ? spec.stdin.bytes : undefined);
    // While it starts. A runner that dies before this line leaves a call that nobody knows: the next one ends it.
    this.#host.ledger.note({ kind: 'call', ...identity });
    await begun;
    return call;
  }

  #admit(callId: string): void {
    if (this.#ids.has(callId))
      throw new RunnerError('call_exists', `call ${callId} has been started before; a call runs once`);
    if (this.#running.size < commandsMax) return;
    throw new RunnerError(
      'too_many_calls',
      `${commandsMax} commands are running in this sandbox; wait for one to end or kill one`,
    );
  }

  /** Those of the runner before whose end is not on disk, from its ledger. */
  takeUp(lines: readonly LedgerLine[], link: Link, welcome: Welcome): readonly RunningCall[] {
    const done = new Set(lines.filter((line) => line.kind === 'done').map((line) => line.number));
    for (const line of lines) {
      if (line.kind !== 'call') continue;
      this.#ids.add(line.id);
      if (!done.has(line.number)) this.#running.set(line.number, new RunningCall(this.#host, link, line, true));
    }
    const calls = this.all;
    this.goOn(link, welcome);
    return calls;
  }

  /** Every call that both sides know goes on; one that never arrived is sent again, one that nobody here knows is ended. */
  goOn(link: Link, welcome: Welcome): void {
    const known = new Set(this.#running.keys());
    const leftovers: Promise<void>[] = [];
    for (const entry of welcome.calls) {
      const call = this.#running.get(entry.call);
      known.delete(entry.call);
      if (call === undefined) leftovers.push(endLeftover(link, entry));
      else call.resume(link, entry);
    }
    this.#leftovers = Promise.all(leftovers);
    for (const number of known) this.#running.get(number)?.repeat(link);
  }

  /** From here on they may write so much together. For a sandbox in which none has been started. */
  allow(outputMaxBytes: number): void {
    this.#outputMaxBytes = outputMaxBytes;
    this.#host.budget.leftBytes = outputMaxBytes;
  }

  /** What they have written until now is on disk once it resolves. */
  async settle(): Promise<void> {
    await Promise.all(this.all.map((call) => call.settle()));
  }

  #forget(call: RunningCall): void {
    this.#running.delete(call.number);
    this.#settling.add(call);
    void call.gone.then(() => this.#settling.delete(call));
  }
}
