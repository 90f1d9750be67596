import { setTimeout as sleep } from 'node:timers/promises';
import { findContext } from '../context/context-files.ts';
import { isRunnerError } from '../errors.ts';
import { readEntries } from '../journal/read.ts';
import type { RunSnapshot } from '../runner.ts';
import type { Run } from '../runner.ts';
import type { ToolCall } from '../tools/tool-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import { difference, type Difference, type Ended } from './compare.ts';
import type { Step } from './plan.ts';
import type { Recorded } from './recorded.ts';
import type { LeftOut } from './replay-record.ts';

/** A call that was made again and, as far as anybody has asked, runs. */
interface Playing {
  readonly call: ToolCall;
  readonly atMs: number;
  readonly startedMs: number;
  readonly answer: Promise<ToolResult | Failed>;
  hasEnded: boolean;
}

interface Failed {
  readonly failed: string;
}

/** How a call came out, now. */
export interface CameOut extends Ended {
  readonly callId: string;
  readonly call: ToolCall;
  readonly result: ToolResult | undefined;
}

/** Where the replay stopped. */
export interface Diverged {
  readonly callId?: string;
  readonly tool?: string;
  readonly difference: Difference;
}

export interface PlayOptions {
  readonly recorded: Recorded;
  readonly signal?: AbortSignal | undefined;
  /** The original spacing of calls is kept all along. */
  readonly isPaced: boolean;
  readonly hasNetwork: boolean;
  /** A call is made again, so many of so many. */
  readonly onCall?: ((callId: string, tool: string, number: number) => void) | undefined;
  /** It has ended; what was it to be? */
  readonly compare: (step: Extract<Step, { readonly kind: 'ended' }>, came: CameOut) => Promise<Difference | undefined>;
}

/**
 * Makes the calls of a run again in another one. Promises:
 *  - a call begins after those that had ended before it, and beside those that had not; of these, no earlier than it did;
 *  - it stops at the first thing that comes out otherwise;
 *  - what cannot be made again is told, and nothing is made that depends on it.
 */
export class Player {
  readonly #run: Run;
  readonly #options: PlayOptions;
  readonly #playing = new Map<string, Playing>();
  readonly #gone = new Set<string>();
  readonly #snapshots = new Map<string, RunSnapshot>();
  readonly #leftOut: LeftOut[] = [];
  /** Which rules have denied calls, of the entries that were read. */
  readonly #rules = new Map<string, string>();
  /** Commands that a call has ended. */
  readonly #killed = new Set<string>();
  #first: { readonly atMs: number; readonly startedMs: number } | undefined;
  #seenSeq = 0;
  #replayed = 0;
  #denied = 0;

  constructor(run: Run, options: PlayOptions) {
    this.#run = run;
    this.#options = options;
  }

  get leftOut(): readonly LeftOut[] {
    return this.#leftOut;
  }

  get counts(): { readonly replayed: number; readonly denied: number } {
    return { replayed: this.#replayed, denied: this.#denied };
  }

  /** Throws what `signal` was aborted with, and what of ours broke. */
  async play(): Promise<Diverged | undefined> {
    const { steps } = this.#options.recorded.plan;
    for (const [index, step] of steps.entries()) {
      this.#options.signal?.throwIfAborted();
      const diverged = await this.#step(step, steps[index + 1]);
      if (diverged !== undefined) return diverged;
    }
    return undefined;
  }

  async #step(step: Step, next: Step | undefined): Promise<Diverged | undefined> {
    switch (step.kind) {
      case 'call':
        return await this.#begin(step, next);
      case 'denied':
        return await this.#deny(step);
      case 'ended':
        return await this.#end(step);
      case 'snapshot': {
        const taken = await this.#run.snapshot({ scratch: step.scratch });
        this.#snapshots.set(step.digest, taken);
        if (taken.digest === step.digest) return undefined;
        return { difference: difference('snapshot', step.digest, taken.digest) };
      }
      case 'restore': {
        const snapshot = this.#snapshots.get(step.digest);
        if (snapshot !== undefined) await this.#run.restore(snapshot);
        return undefined;
      }
      case 'context': {
        const believed = await findContext(this.#options.recorded.dir, step.digest);
        if (believed === undefined) this.noteLeft('a context snapshot that was attached is not kept any more');
        else await this.#run.attachContext(believed, step.by);
        return undefined;
      }
      case 'narrow':
        if (this.#options.hasNetwork) await this.#run.narrowEgress(step.without);
        return undefined;
      case 'revoke':
        if (this.#options.hasNetwork) await this.#run.revokeCredential(step.credential);
        return undefined;
    }
  }

  async #begin(step: Extract<Step, { kind: 'call' }>, next: Step | undefined): Promise<undefined> {
    const { callId, asked, atMs } = step;
    const call = await this.#options.recorded.call(asked.argsDigest, asked.arguments);
    const why = this.#whyNot(call);
    if (call === undefined || why !== undefined) return this.#leave(callId, why ?? notKept);
    await this.#hold(atMs);
    this.#tell(callId, call.tool);
    this.#replayed += 1;
    const startedMs = performance.now();
    this.#first ??= { atMs, startedMs };
    const answer = this.#run.call(callId, call).catch((error: unknown): Failed => {
      if (isRunnerError(error) && this.#run.sandbox.state === 'running' && !this.#run.isClosing)
        return { failed: error.code };
      throw error;
    });
    answer.catch(() => undefined); // whoever waits for its end hears of it
    if (call.tool === 'exec_kill') this.#killed.add(call.callId);
    const playing = { call, atMs, startedMs, answer, hasEnded: false };
    this.#playing.set(callId, playing);
    // What comes beside it may speak to it, so it has to be there.
    if (call.tool === 'exec' && !(next?.kind === 'ended' && next.callId === callId))
      await this.#dispatched(callId, answer);
    return undefined;
  }

  #whyNot(call: ToolCall | undefined): string | undefined {
    if (call === undefined) return notKept;
    if (call.tool === 'exec' && call.tty !== undefined) return 'a terminal session: not replayed';
    if ('callId' in call && this.#gone.has(call.callId))
      return `it is about call ${call.callId}, which is not replayed`;
    return undefined;
  }

  /** Of a call that was made again, too: what is said of it does not go far enough. */
  noteLeft(why: string, callId?: string): void {
    this.#leftOut.push({ why, ...(callId === undefined ? {} : { callId }) });
  }

  #leave(callId: string, why: string): undefined {
    this.#gone.add(callId);
    this.noteLeft(why, callId);
    return undefined;
  }

  /** Whether or not it is answered already. */
  async #dispatched(callId: string, answer: Promise<unknown>): Promise<void> {
    const answered = answer.then(
      () => true,
      () => true,
    );
    const untilMs = performance.now() + dispatchMs;
    while (this.#run.findCommand(callId) === undefined && performance.now() < untilMs)
      if (await Promise.race([answered, sleep(pollDispatchMs, false)])) return;
  }

  async #deny(step: Extract<Step, { kind: 'denied' }>): Promise<Diverged | undefined> {
    const { callId, denied, atMs } = step;
    const call = await this.#options.recorded.call(denied.argsDigest);
    if (call === undefined)
      return this.#leave(callId, `it was denied (${denied.rule}), and what it asked was not kept`);
    await this.#hold(atMs);
    this.#tell(callId, call.tool);
    const result = await this.#run.call(callId, call);
    const rule = result.error?.code === 'denied' ? await this.#ruleOf(callId) : undefined;
    this.#replayed += 1;
    this.#denied += 1;
    if (rule === denied.rule) return undefined;
    const found = rule === undefined ? `it was let in: ${result.text.slice(0, 300)}` : `denied by rule ${rule}`;
    const expected = `denied by rule ${denied.rule}`;
    return {
      callId,
      tool: call.tool,
      difference: difference(rule === undefined ? 'allowed' : 'denied', expected, found),
    };
  }

  async #end(step: Extract<Step, { kind: 'ended' }>): Promise<Diverged | undefined> {
    const { callId } = step;
    const playing = this.#playing.get(callId);
    if (playing === undefined) return undefined;
    if (step.end.outcome.kind === 'cancelled' && !this.#killed.has(callId)) await this.#cancel(step, playing);
    const came = await this.#cameOut(callId, playing);
    playing.hasEnded = true;
    const found =
      came.outcome.kind === 'denied' ? deniedNow(step.end.outcome, came) : await this.#options.compare(step, came);
    this.#playing.delete(callId);
    return found === undefined ? undefined : { callId, tool: playing.call.tool, difference: found };
  }

  /** No call has ended it: its run was closed, or its harness left. Then it is ended now, as far into it as then. */
  async #cancel({ callId, atMs }: Extract<Step, { kind: 'ended' }>, playing: Playing): Promise<void> {
    const restMs = atMs - playing.atMs - (performance.now() - playing.startedMs);
    await this.#pause(
      restMs,
      playing.answer.then(() => this.#run.findCommand(callId)?.ended),
    );
    this.#run.findCommand(callId)?.kill({ graceMs: closeGraceMs });
  }

  async #cameOut(callId: string, { call, answer }: Playing): Promise<CameOut> {
    let result = await answer;
    if ('failed' in result)
      return { callId, call, result: undefined, outcome: { kind: 'failed' }, error: result.failed };
    while (result.data?.kind === 'exec' && result.data.state === 'running') {
      this.#options.signal?.throwIfAborted();
      result = await this.#run.poll(callId, pollMs);
    }
    const { data, error } = result;
    if (data?.kind === 'exec' && data.outcome !== null)
      return { callId, call, result, outcome: data.outcome, exitCode: data.exitCode ?? undefined };
    if (error?.code === 'denied') {
      const rule = (await this.#ruleOf(callId)) ?? 'unknown';
      return { callId, call, result, outcome: { kind: 'denied', rule, reason: error.message.slice(0, 300) } };
    }
    const outcome = result.ok ? ({ kind: 'done' } as const) : ({ kind: 'failed' } as const);
    return { callId, call, result, outcome, error: error?.code };
  }

  /** Beside others a call begins no earlier than it did: what they had done by then is what it met. */
  async #hold(atMs: number): Promise<void> {
    const now = performance.now();
    const beside = [...this.#playing.values()].filter(({ hasEnded }) => !hasEnded);
    const rests = beside.map((other) => atMs - other.atMs - (now - other.startedMs));
    if (this.#options.isPaced && this.#first !== undefined)
      rests.push(atMs - this.#first.atMs - (now - this.#first.startedMs));
    await this.#pause(Math.max(0, ...rests));
  }

  async #pause(ms: number, orUntil?: Promise<unknown>): Promise<void> {
    if (ms <= 0) return;
    const { signal } = this.#options;
    const over = new AbortController();
    const stop = (): void => over.abort();
    signal?.addEventListener('abort', stop, { once: true });
    try {
      const pause = sleep(ms, undefined, { signal: over.signal }).catch(() => undefined);
      await Promise.race([pause, ...(orUntil === undefined ? [] : [orUntil.catch(() => pause)])]);
    } finally {
      signal?.removeEventListener('abort', stop);
      over.abort();
    }
    signal?.throwIfAborted();
  }

  /** The rule by which the replay has denied a call last. */
  async #ruleOf(callId: string): Promise<string | undefined> {
    for await (const entry of readEntries(this.#run.dir.journal, { fromSeq: this.#seenSeq + 1 })) {
      this.#seenSeq = entry.seq;
      if (entry.type === 'call.denied') this.#rules.set(entry.data.callId, entry.data.rule);
    }
    return this.#rules.get(callId);
  }

  #tell(callId: string, tool: string): void {
    this.#options.onCall?.(callId, tool, this.#replayed + 1);
  }
}

const notKept = 'what it asked was not kept whole: not replayed';
const pollMs = 60_000;
const dispatchMs = 5_000;
const pollDispatchMs = 5;
const closeGraceMs = 500;

function deniedNow(then: Ended['outcome'], now: CameOut): Difference {
  const rule = now.outcome.kind === 'denied' ? now.outcome.rule : '';
  return difference('denied', then.kind.replaceAll('_', ' '), `denied by rule ${rule}`);
}
