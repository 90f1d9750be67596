import type { CallEnd, ExecSpec, Files, OutputTotals } from '../sandbox/spec.ts';
import { CallTable } from './call-table.ts';
import { ShellFinder } from './shell-finder.ts';
import { ShellSessions } from './shell-sessions.ts';

/** All that the tools need of a sandbox; the real `Sandbox` fits. */
export interface ToolSandbox {
  readonly files: Files;
  start(callId: string, spec: ExecSpec): Promise<StartedCall>;
}

/** A command that runs, or has ended; the real `RunningCall` fits. */
export interface StartedCall {
  readonly id: string;
  readonly output: CallOutput;
  /** Never rejects: a lost sandbox is an outcome. */
  readonly ended: Promise<CallEnd>;
  /** Undefined while it runs. */
  readonly result: CallEnd | undefined;
  write(bytes: Uint8Array): Promise<void>;
  closeStdin(): Promise<void>;
  signal(signal: number, target?: 'tree' | 'foreground'): void;
  kill(): void;
  resize(columns: number, rows: number): void;
}

/** What a call has printed. `merged` is stdout and stderr in order; offsets are the view's own. */
export interface CallOutput {
  readonly totals: OutputTotals;
  size(view?: OutputView): number;
  read(offset: number, maxBytes: number, view?: OutputView): Promise<{ readonly bytes: Buffer }>;
  /** What was written to fd 3. */
  aux(): Buffer;
}

export type OutputView = 'merged' | 'stdout' | 'stderr';

/** One per sandbox: the sandbox and what the tools remember about it between calls. */
export class ToolContext {
  readonly files: Files;
  readonly calls = new CallTable();
  readonly sessions = new ShellSessions();
  readonly shells: ShellFinder;
  readonly #sandbox: ToolSandbox;

  constructor(sandbox: ToolSandbox) {
    this.#sandbox = sandbox;
    this.files = sandbox.files;
    this.shells = new ShellFinder(sandbox.files);
  }

  /** Never retried: what is unclear is an error, not a second run. */
  async start(callId: string, spec: ExecSpec): Promise<StartedCall> {
    const call = await this.#sandbox.start(callId, spec);
    this.calls.add(call);
    return call;
  }
}
