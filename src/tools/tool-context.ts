import type { ExecSpec, Files } from '../sandbox/spec.ts';
import { CallTable, noSuchCall } from './call-table.ts';
import { ShellFinder } from './shell-finder.ts';
import { ShellSessions, type SessionKeeper } from './shell-sessions.ts';
import type { EgressDenied } from './tool-result.ts';
import type { StartedCall } from './started-call.ts';

/** All that the tools need of a sandbox; the real `Sandbox` fits. */
export interface ToolSandbox {
  readonly files: Files;
  start(callId: string, spec: ExecSpec): Promise<StartedCall>;
  /** What a call was refused on the network. Absent where there is none. */
  egressDenied?(callId: string): readonly EgressDenied[];
  /** Absent where they end with this process. */
  readonly sessions?: SessionKeeper;
  /** A call that ended long ago, or in the time of another runner. Absent where none is kept. */
  findEnded?(callId: string): Promise<StartedCall | undefined>;
}

/** One per sandbox: the sandbox and what the tools remember about it between calls. */
export class ToolContext {
  readonly files: Files;
  readonly calls: CallTable;
  readonly sessions: ShellSessions;
  readonly shells: ShellFinder;
  readonly #sandbox: ToolSandbox;

  constructor(sandbox: ToolSandbox, { files, of }: { readonly files?: Files; readonly of?: ToolContext } = {}) {
    this.#sandbox = sandbox;
    this.files = files ?? sandbox.files;
    this.calls = of?.calls ?? new CallTable();
    this.sessions = of?.sessions ?? new ShellSessions(sandbox.sessions);
    this.shells = of?.shells ?? new ShellFinder(sandbox.files);
  }

  /** The same, whose files are reached another way. */
  withFiles(files: Files): ToolContext {
    return new ToolContext(this.#sandbox, { files, of: this });
  }

  /** Never retried: what is unclear is an error, not a second run. */
  async start(callId: string, spec: ExecSpec): Promise<StartedCall> {
    const call = await this.#sandbox.start(callId, spec);
    this.calls.add(call);
    return call;
  }

  /** One that runs or has ended. Throws `call_not_found`. */
  async getCall(callId: string): Promise<StartedCall> {
    const call = this.calls.find(callId) ?? (await this.#sandbox.findEnded?.(callId));
    if (call === undefined) throw noSuchCall(callId);
    return call;
  }

  egressDenied(callId: string): readonly EgressDenied[] {
    return this.#sandbox.egressDenied?.(callId) ?? [];
  }
}
