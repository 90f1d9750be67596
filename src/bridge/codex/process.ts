import { setTimeout as sleep } from 'node:timers/promises';
import { isRunnerError, messageOf } from '../../errors.ts';
import { newId } from '../../ids.ts';
import type { DelegatedRun } from '../../run/delegated-run.ts';
import { rpcCodes } from '../../stdio/in-flight.ts';
import { describeExec } from '../../tools/exec-text.ts';
import type { ToolCallInput } from '../../tools/tool-call.ts';
import type { ExecData } from '../../tools/tool-result.ts';
import { BoundedChunks, type Chunk } from './bounded-chunks.ts';
import { RpcError, type ReadParams, type StartParams, type WriteParams } from './protocol.ts';

export type Notify = (method: string, params: Record<string, unknown>) => Promise<void>;

const pieceBytes = 65_536;
const keptBytesMax = 1_048_576;
const readWaitMax = 60_000;
const followMs = 30_000;
const writeIdsMax = 256;
/** The policy's own limit is the one that holds. */
const longestMs = 86_400_000;

/**
 * One process of the client: an exec call of the run, whose output is told as it comes and kept for reading again. `seq` counts
 * pieces of output, then the exit, then the end, without a gap.
 */
export class CodexProcess {
  readonly id: string;
  readonly #run: DelegatedRun;
  readonly #tty: boolean;
  readonly #takesInput: boolean;
  readonly #chunks = new BoundedChunks(keptBytesMax);
  readonly #writes = new Set<string>();
  #lastSeq = 0;
  #exitCode: number | undefined;
  #closed = false;
  #writing: Promise<unknown> = Promise.resolve();
  #changed: () => void = () => undefined;
  #change: Promise<void>;

  private constructor(run: DelegatedRun, { processId, tty, pipeStdin }: StartParams) {
    this.id = processId;
    this.#run = run;
    this.#tty = tty;
    this.#takesInput = tty || pipeStdin;
    this.#change = this.#nextChange();
  }

  /** Throws what the client is told when the policy, or the run, does not start it. */
  static async start(run: DelegatedRun, params: StartParams, cwd: string, notify: Notify): Promise<CodexProcess> {
    const { processId, argv, env, tty, pipeStdin } = params;
    const input: ToolCallInput = {
      tool: 'exec',
      argv,
      cwd,
      env,
      ...(tty ? { tty: { columns: 80, rows: 24 } } : {}),
      keepStdinOpen: pipeStdin,
      yieldMs: 0,
      killAfterMs: longestMs,
    };
    const { error, text } = await run.call(processId, input, claimsOf(params));
    if (error !== null) throw new RpcError(rpcCodes.invalid, text);
    const process = new CodexProcess(run, params);
    setImmediate(() => void process.#follow(notify)); // the answer goes first
    return process;
  }

  get running(): boolean {
    return this.#exitCode === undefined;
  }

  get closed(): boolean {
    return this.#closed;
  }

  async read({ afterSeq, maxBytes, waitMs }: ReadParams): Promise<Record<string, unknown>> {
    const after = afterSeq ?? 0;
    const limit = maxBytes ?? keptBytesMax;
    const deadlineMs = performance.now() + Math.min(waitMs ?? 0, readWaitMax);
    let chunks = this.#chunks.after(after, limit);
    while (chunks.length === 0 && !this.#closed && performance.now() < deadlineMs) {
      await Promise.race([this.#change, sleep(Math.max(1, deadlineMs - performance.now()), undefined, { ref: false })]);
      chunks = this.#chunks.after(after, limit);
    }
    const last = chunks.at(-1)?.seq;
    return {
      chunks: chunks.map((chunk) => this.#told(chunk)),
      nextSeq: (last ?? Math.max(after, this.#lastSeq)) + 1,
      exited: this.#exitCode !== undefined,
      exitCode: this.#exitCode ?? null,
      closed: this.#closed,
      failure: null,
      sandboxDenied: false,
    };
  }

  /** One after the other; the same write id twice is written once. */
  async write({ chunk, writeId }: WriteParams): Promise<{ status: 'accepted' | 'stdinClosed' }> {
    if (!this.#takesInput || !this.running) return { status: 'stdinClosed' };
    if (writeId !== undefined && writeId !== null) {
      if (this.#writes.has(writeId)) return { status: 'accepted' };
      this.#writes.add(writeId);
      const [oldest] = this.#writes;
      if (this.#writes.size > writeIdsMax && oldest !== undefined) this.#writes.delete(oldest);
    }
    const input = { tool: 'exec_write', callId: this.id, data: { base64: chunk } } as const;
    const written = this.#writing.then(() => this.#run.call(newId(), input));
    this.#writing = written.catch(() => undefined);
    try {
      const { error, text } = await written;
      if (error !== null) throw new RpcError(rpcCodes.invalid, text);
      return { status: 'accepted' };
    } catch (error) {
      if (!this.running && isRunnerError(error)) return { status: 'stdinClosed' };
      throw error;
    }
  }

  async interrupt(): Promise<void> {
    if (!this.running) return;
    const { error, text } = await this.#run.call(newId(), { tool: 'exec_signal', callId: this.id, signal: 'INT' });
    if (error !== null) throw new RpcError(rpcCodes.invalid, text);
  }

  /** Whether it ran until now. */
  async terminate(): Promise<boolean> {
    if (!this.running) return false;
    await this.#run.cancel(this.id);
    return true;
  }

  async #follow(notify: Notify): Promise<void> {
    let exitCode = 1;
    try {
      for (let offset = 0; ;) {
        const part = await this.#run.output(this.id, offset, pieceBytes, followMs);
        if (part === undefined) break;
        offset = part.nextOffset;
        if (part.bytes.length > 0) await this.#tell(part.bytes, notify);
        if (part.ended) break;
      }
      const { data } = await this.#run.poll(this.id, followMs);
      const ended = data?.kind === 'exec' ? data : undefined;
      exitCode = ended?.exitCode ?? 1;
      const note = ended === undefined ? '' : noteOn(ended, this.id);
      if (note !== '') await this.#tell(Buffer.from(note), notify);
    } catch (error) {
      await this.#tell(Buffer.from(`\n[glovebox: how it ended is not known: ${messageOf(error)}]\n`), notify);
    }
    this.#exitCode = exitCode;
    const exited = { processId: this.id, seq: (this.#lastSeq += 1), exitCode, sandboxDenied: false };
    await notify('process/exited', exited);
    this.#closed = true;
    this.#wake();
    await notify('process/closed', { processId: this.id, seq: (this.#lastSeq += 1) });
  }

  async #tell(bytes: Buffer, notify: Notify): Promise<void> {
    const chunk = { seq: (this.#lastSeq += 1), bytes };
    this.#chunks.add(chunk);
    this.#wake();
    await notify('process/output', { processId: this.id, ...this.#told(chunk) });
  }

  /** Both streams in order, as one. */
  #told({ seq, bytes }: Chunk): Record<string, unknown> {
    return { seq, stream: this.#tty ? 'pty' : 'stdout', chunk: bytes.toString('base64') };
  }

  #wake(): void {
    const changed = this.#changed;
    this.#change = this.#nextChange();
    changed();
  }

  #nextChange(): Promise<void> {
    return new Promise((resolve) => {
      this.#changed = resolve;
    });
  }
}

/** What an exit code does not say. */
function noteOn(ended: ExecData, callId: string): string {
  const plain = ended.outcome?.kind === 'exited' || ended.outcome?.kind === 'signaled';
  if (plain && ended.egressDenied.length === 0) return '';
  if (ended.outcome?.kind === 'cancelled') return '';
  return `\n[glovebox: ${describeExec(ended, callId)}]\n`;
}

const claimsMax = 2_000;

/** Kept in the journal as it was said; it decides nothing. */
function claimsOf({ metadata, arg0, envPolicy, sandbox, enforceManagedNetwork, managedNetwork }: StartParams): string {
  const said = { metadata, arg0, sandbox, enforceManagedNetwork, managedNetwork, envPolicy };
  return JSON.stringify(said, (_, value: unknown) => value ?? undefined).slice(0, claimsMax);
}
