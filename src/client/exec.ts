import { setTimeout as sleep } from 'node:timers/promises';
import { newId } from '../ids.ts';
import type { RemoteCommand } from './remote-command.ts';
import type { ArgumentsOf, CallOf, DataOf, ResultOf } from './typed-result.ts';

type Stream = 'stdout' | 'stderr';

/** Program and arguments, or a script for a shell. */
export type Command = string | readonly [string, ...string[]];

export interface ExecOptions extends ArgumentsOf<'exec', 'argv' | 'script' | 'yieldMs' | 'killAfterMs'> {
  readonly callId?: string | undefined;
  /** The command and its whole process tree are ended after so long; default 120,000. */
  readonly timeoutMs?: number | undefined;
  /** Ends the command, then throws its reason. */
  readonly signal?: AbortSignal | undefined;
  /** What it prints, as it comes, at the pace at which this returns. Of a terminal all of it is `stdout`. */
  readonly onOutput?: ((bytes: Uint8Array, stream: Stream) => void | Promise<void>) | undefined;
  /** It waits for people; asked again as long as they may answer. `message` says for what. */
  readonly onWaiting?: ((message: string) => void) | undefined;
}

/** What `exec` needs of a run. */
interface Caller {
  call(callId: string, call: CallOf<'exec'>): Promise<ResultOf<'exec'>>;
  command(callId: string): RemoteCommand;
}

const yieldMs = 20_000;
/** What has ended by then came with its first answer, and needs no stream. */
const quickMs = 50;
const killMs = 5_000;

/** A command that was asked for. */
export class ExecutedCommand {
  readonly command: RemoteCommand;
  /** The first answer: it runs, or has ended, or was refused. */
  readonly started: ResultOf<'exec'>;
  /** How it ended. Rejects when the service is lost, or with the reason of the signal once it was killed. */
  readonly ended: Promise<ResultOf<'exec'>>;

  private constructor(command: RemoteCommand, started: ResultOf<'exec'>, ended: Promise<ResultOf<'exec'>>) {
    this.command = command;
    this.started = started;
    this.ended = ended;
  }

  static async start(run: Caller, command: Command, options: ExecOptions, atOnce = true): Promise<ExecutedCommand> {
    options.signal?.throwIfAborted();
    const callId = options.callId ?? newId();
    const started = run.command(callId);
    const stop = new Stop(started, options.signal);
    try {
      const longMs = atOnce ? 0 : options.onOutput === undefined ? yieldMs : quickMs;
      const first = await stop.orElse(ask(run, callId, callOf(command, options, longMs), options));
      const ended = stop.orElse(endOf(started, first, options)).finally(() => stop.close());
      ended.catch(() => undefined); // whoever waits for it is told; nobody has to
      return new ExecutedCommand(started, first, ended);
    } catch (error) {
      stop.close();
      throw error;
    }
  }
}

/** Until people have answered. */
async function ask(
  run: Caller,
  callId: string,
  call: CallOf<'exec'>,
  { onWaiting, signal }: ExecOptions,
): Promise<ResultOf<'exec'>> {
  for (;;) {
    const result = await run.call(callId, call);
    if (result.error?.code !== 'waiting_for_approval' || signal?.aborted === true) return result;
    onWaiting?.(result.error.message);
  }
}

function callOf(command: Command, options: ExecOptions, longMs: number): CallOf<'exec'> {
  const { callId: _, timeoutMs, signal: __, onOutput: ___, onWaiting: ____, ...rest } = options;
  const what = typeof command === 'string' ? { script: command } : { argv: [...command] as [string, ...string[]] };
  return {
    tool: 'exec',
    ...what,
    ...rest,
    yieldMs: longMs,
    ...(timeoutMs === undefined ? {} : { killAfterMs: timeoutMs }),
  };
}

async function endOf(
  command: RemoteCommand,
  first: ResultOf<'exec'>,
  { onOutput, tty, signal }: ExecOptions,
): Promise<ResultOf<'exec'>> {
  if (first.data === null) return first;
  if (onOutput !== undefined && !(await gaveWhole(first.data, onOutput))) {
    const copy = async (stream: Stream, view: 'merged' | Stream): Promise<void> => {
      for await (const bytes of command.output({ stream: view, signal, waitMs: 0 })) await onOutput(bytes, stream);
    };
    await (tty === undefined
      ? Promise.all([copy('stdout', 'stdout'), copy('stderr', 'stderr')])
      : copy('stdout', 'merged'));
  }
  return first.data.state === 'ended' ? first : command.ended(signal);
}

/** Where all of both streams is in the answer already. */
async function gaveWhole(data: DataOf<'exec'>, onOutput: NonNullable<ExecOptions['onOutput']>): Promise<boolean> {
  const { state, stdout, stderr } = data;
  if (state === 'running' || stdout === null || stderr === null) return false;
  if (stdout.omittedBytes > 0 || stderr.omittedBytes > 0) return false;
  if (stdout.head.bytes > 0) await onOutput(bytesIn(stdout.head), 'stdout');
  if (stderr.head.bytes > 0) await onOutput(bytesIn(stderr.head), 'stderr');
  return true;
}

function bytesIn({ text, base64 }: { readonly text: string; readonly base64: string | null }): Buffer {
  return base64 === null ? Buffer.from(text, 'utf8') : Buffer.from(base64, 'base64');
}

/** Kills the command when the signal says so, and gives the kill a moment before it says so too. */
class Stop {
  readonly #command: RemoteCommand;
  readonly #signal: AbortSignal | undefined;
  readonly #aborted: Promise<never>;
  #reject: (reason: unknown) => void = () => undefined;

  constructor(command: RemoteCommand, signal: AbortSignal | undefined) {
    this.#command = command;
    this.#signal = signal;
    this.#aborted = new Promise((_, reject) => (this.#reject = reject));
    this.#aborted.catch(() => undefined);
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** What the work comes to, or the signal's reason. */
  orElse<T>(work: Promise<T>): Promise<T> {
    work.catch(() => undefined);
    return Promise.race([work.catch((error: unknown) => this.#unless(error)), this.#aborted]);
  }

  close(): void {
    this.#signal?.removeEventListener('abort', this.#onAbort);
  }

  /** What the work failed with, unless that is the abort's doing: then the kill is waited for. */
  #unless(error: unknown): Promise<never> {
    if (this.#signal?.aborted === true) return this.#aborted;
    throw error;
  }

  readonly #onAbort = (): void => {
    const reason: unknown = this.#signal?.reason;
    // A call that has not begun, or has ended, cannot be killed, and need not be.
    const killed = this.#command.kill().catch(() => undefined);
    void Promise.race([killed, sleep(killMs, undefined, { ref: false })]).then(() => this.#reject(reason));
  };
}
