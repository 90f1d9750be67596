import { setTimeout as sleep } from 'node:timers/promises';
import type { Duplex } from 'node:stream';
import { isRunnerError, RunnerError } from '../errors.ts';
import type { ToolName } from '../tools/tool-call.ts';
import { OutputStream, type OutputOptions } from './output-stream.ts';
import { jsonBody, type Requests } from './requests.ts';
import type { ResultOf } from './typed-result.ts';

export type SignalName =
  | 'HUP'
  | 'INT'
  | 'QUIT'
  | 'KILL'
  | 'USR1'
  | 'USR2'
  | 'TERM'
  | 'CONT'
  | 'STOP'
  | 'TSTP'
  | 'WINCH';

const waitMs = 20_000;
/** What a service takes as JSON is bounded. */
const stdinBytesMax = 2 * 1024 * 1024;
const pauseMs = 200;

/** A command of a run by its call id, running or ended. Whoever has the id can have the command, from anywhere. */
export class RemoteCommand {
  readonly callId: string;
  readonly #requests: Requests;
  readonly #path: string;

  /** `path` is the call's. */
  constructor(requests: Requests, path: string, callId: string) {
    this.#requests = requests;
    this.#path = path;
    this.callId = callId;
  }

  /** Every byte it prints, until it has ended. */
  output(options: OutputOptions = {}): OutputStream {
    return new OutputStream(this.#requests, `${this.#path}/output`, options);
  }

  /** How it stands; waits up to `waitMs` for its end, default not at all. */
  poll(
    options: { readonly waitMs?: number; readonly signal?: AbortSignal | undefined } = {},
  ): Promise<ResultOf<'exec'>> {
    const { waitMs: longMs = 0, signal } = options;
    const path = `${this.#path}?waitMs=${longMs}`;
    return this.#requests.json({ method: 'GET', path, repeatable: true, signal });
  }

  /** Waits until it has ended, however many calls others make meanwhile. Aborting ends the wait, not the command. */
  async ended(signal?: AbortSignal): Promise<ResultOf<'exec'>> {
    for (;;) {
      const result = await this.poll({ waitMs, signal }).catch((error: unknown) => {
        if (isRunnerError(error, 'rate_limited')) return error;
        throw error;
      });
      const isRefused = result instanceof RunnerError;
      if (!isRefused && result.data?.state !== 'running') return result;
      const againMs = isRefused ? Math.min(waitMs, result.retryAfterMs ?? pauseMs) : pauseMs;
      await sleep(againMs, undefined, signal === undefined ? {} : { signal });
    }
  }

  async write(data: Uint8Array | string, { close = false }: { readonly close?: boolean } = {}): Promise<void> {
    const bytes = Buffer.from(data);
    for (let at = 0; at === 0 || at < bytes.length; at += stdinBytesMax) {
      const piece = bytes.subarray(at, at + stdinBytesMax);
      const isLast = at + stdinBytesMax >= bytes.length;
      await this.#tell('stdin', { data: { base64: piece.toString('base64') }, close: close && isLast });
    }
  }

  async closeStdin(): Promise<void> {
    await this.#tell('stdin', { close: true });
  }

  async signal(signal: SignalName, target: 'foreground' | 'all' = 'foreground'): Promise<void> {
    await this.#tell('signal', { signal, target });
  }

  /** With its whole process tree. One that has ended stays as it ended. */
  async kill(): Promise<void> {
    await this.#tell('kill', {});
  }

  async resize(columns: number, rows: number): Promise<void> {
    await this.#tell('resize', { columns, rows });
  }

  /** Its terminal, both ways, where it has one; ends when it does. */
  terminal(signal?: AbortSignal): Promise<Duplex> {
    return this.#requests.transport.connect(`${this.#path}/pty`, signal);
  }

  async #tell(what: string, body: Readonly<Record<string, unknown>>): Promise<ResultOf<ToolName>> {
    return this.#requests.json({
      method: 'POST',
      path: `${this.#path}/${what}`,
      ...jsonBody(body),
    });
  }
}
