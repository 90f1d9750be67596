import { spawn } from 'node:child_process';
import { PassThrough, Readable } from 'node:stream';
import { messageOf } from './errors.ts';

/** What a program of this machine is started with. */
export interface ProgramOptions {
  readonly cwd?: string;
  /** All that it has. `PATH` is also where it is looked for. */
  readonly env: Readonly<Record<string, string>>;
  /** Default: nothing to read. What comes in pieces is made as it is read; where that throws, the program is killed. */
  readonly input?: Uint8Array | AsyncIterable<Uint8Array> | undefined;
  /** Then it is killed; so it is when it says more than `outputBytesMax` on one of its outputs, or is not wanted any more. */
  readonly timeoutMs: number;
  readonly outputBytesMax: number;
  readonly signal?: AbortSignal | undefined;
}

export interface ProgramEnd {
  /** Undefined of one that did not end by itself; then `why` says what was the matter. */
  readonly code: number | undefined;
  readonly why: string;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

/**
 * Runs a program of this machine to its end, for what is small and often wanted: there is nothing to load for it, and little to
 * do beside the fork. Promises:
 *  - arguments are an array, and of our own environment it sees what is given to it;
 *  - what is kept of it stays within its bound, and the wait for it within its time and two seconds, also where it cannot be
 *    killed, or leaves its outputs to somebody who lives on;
 *  - never rejects: what could not be started has no code.
 */
export async function runProgram(name: string, args: readonly string[], options: ProgramOptions): Promise<ProgramEnd> {
  if (options.signal?.aborted === true) return { ...nothing, why: cancelled };
  try {
    return await new Promise((resolve) => run(name, args, options, resolve));
  } catch (error) {
    return { ...nothing, why: messageOf(error) }; // its arguments are too long, or there is no memory for one more process
  }
}

function run(name: string, args: readonly string[], options: ProgramOptions, tell: (end: ProgramEnd) => void): void {
  const { cwd, env, input, timeoutMs, outputBytesMax, signal } = options;
  const child = spawn(name, args, { cwd, env, stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
  child.on('error', (error) => {
    if (child.pid === undefined) finish(null, error.message); // else it could not be killed: `stop` does not wait for it
  });
  let why: string | undefined;
  let late: NodeJS.Timeout | undefined;
  let ended = false;
  const finish = (code: number | null, reason: string): void => {
    ended = true;
    for (const timer of [deadline, late]) clearTimeout(timer);
    signal?.removeEventListener('abort', cancel);
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream?.destroy();
    const [out, err] = [stdout(), stderr()];
    tell({ code: why === undefined ? (code ?? undefined) : undefined, why: why ?? reason, stdout: out, stderr: err });
  };
  const stop = (reason: string): void => {
    why ??= reason;
    child.kill('SIGKILL');
    late ??= setTimeout(() => finish(null, reason), lateMs);
  };
  const cancel = (): void => stop(cancelled);
  const deadline = setTimeout(() => stop(`it took longer than ${timeoutMs} ms`), timeoutMs);
  signal?.addEventListener('abort', cancel, { once: true });
  const stdout = gathered(child.stdout, outputBytesMax, stop);
  const stderr = gathered(child.stderr, outputBytesMax, stop);
  // Somebody else still holds its outputs; or this process was busy, and what was said in time is still to be read.
  const wait = (end: () => void): NodeJS.Timeout =>
    setTimeout(() => {
      const read = stdout().length + stderr().length;
      setImmediate(() => {
        if (ended) return;
        if (stdout().length + stderr().length === read) end();
        else late = wait(end);
      });
    }, lateMs);
  child.on('exit', (code, killedBy) => {
    late ??= wait(() => finish(code, byWhom(killedBy)));
  });
  child.on('close', (code, killedBy) => finish(code, byWhom(killedBy)));
  child.stdin?.on('error', () => undefined); // what it did not want to read is no fault
  if (input === undefined || input instanceof Uint8Array) child.stdin?.end(input);
  else
    Readable.from(input)
      .on('error', (error) => stop(messageOf(error)))
      .pipe(child.stdin ?? new PassThrough());
}

const cancelled = 'it was cancelled';
const nothing: ProgramEnd = { code: undefined, why: '', stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
const lateMs = 2_000;

/** Returns what has come so far. */
function gathered(output: Readable | null, bytesMax: number, stop: (reason: string) => void): () => Buffer {
  const parts: Buffer[] = [];
  let bytes = 0;
  output?.on('error', () => undefined); // how the program ends is what counts
  output?.on('data', (part: Buffer) => {
    bytes += part.length;
    if (bytes <= bytesMax) parts.push(part);
    else stop(`it said more than ${bytesMax} bytes`);
  });
  return () => Buffer.concat(parts);
}

function byWhom(signal: NodeJS.Signals | null): string {
  return signal === null ? '' : `${signal} has ended it`;
}
