import type { ApprovalRequest } from '../approvals/approval.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { failpoint } from '../failpoint.ts';
import type { RecordEnd } from '../journal/writer.ts';
import type { RunningCall } from '../sandbox/call.ts';
import { findEndedCall } from '../sandbox/ended-call.ts';
import type { ExecSpec } from '../sandbox/spec.ts';
import { runTool } from '../tools/run-tool.ts';
import type { ToolCall } from '../tools/tool-call.ts';
import { ToolContext } from '../tools/tool-context.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import type { Making } from './answers.ts';
import { AskedCalls } from './asked-calls.ts';
import { boundedSpec } from './bounded-spec.ts';
import type { CallsUnderWay } from './calls-under-way.ts';
import type { Commands } from './commands.ts';
import { endOfVerb } from './entries.ts';
import type { FileAttribution } from './file-attribution.ts';
import { withWarning } from './gate-results.ts';
import type { Asked, RunParts } from './run-parts.ts';
import { SessionFiles } from './session-files.ts';

interface Beside {
  readonly attribution: FileAttribution;
  readonly commands: Commands;
  readonly underWay: CallsUnderWay;
}

/**
 * The way of one call: the gate lets it in, it is on record, it is performed, and what came of it is on record. Promises:
 *  - nothing reaches the sandbox before its intent is in the journal, and no answer leaves before its outcome is;
 *  - a denied call has no effect, and an effect always has an entry.
 */
export class Dispatch {
  /** What the tools of the run work with. */
  readonly context: ToolContext;
  readonly #parts: RunParts;
  readonly #beside: Beside;
  readonly #asked: AskedCalls;
  readonly #setEnv = new Map<string, Readonly<Record<string, string>>>();
  /** Commands that calls which are being made have started. */
  readonly #started = new Map<string, RunningCall>();

  constructor(parts: RunParts, beside: Beside) {
    this.#parts = parts;
    this.#beside = beside;
    this.#asked = new AskedCalls(parts);
    this.context = new ToolContext({
      files: parts.sandbox.files,
      start: async (callId, spec) => {
        const command = await beside.commands.start(callId, () => this.#start(callId, spec));
        this.#started.set(callId, command);
        await failpoint('call.dispatched');
        return command;
      },
      egressDenied: (callId) => parts.fence?.deniedOf(callId) ?? [],
      sessions: new SessionFiles(parts.dir.sessionsDir),
      findEnded: (callId) => findEndedCall(parts.dir.callsDir, callId),
    });
  }

  /** For a call that only looks at what is on record: where it is not refused, it leaves no entry. */
  async observe(callId: string, asked: Asked): Promise<ToolResult> {
    const refused = this.#parts.gate.refuses(asked.request.call);
    return refused === undefined
      ? runTool(this.context, callId, asked.request.call)
      : this.#asked.deny(callId, asked, refused);
  }

  /** `onAsked`: people are asked whether it may be made. */
  async make(
    callId: string,
    asked: Asked,
    onAsked: (request: ApprovalRequest) => void,
    making: Making,
  ): Promise<ToolResult> {
    const { attribution, commands, underWay } = this.#beside;
    const { call } = asked.request;
    const slot = await this.#parts.gate.admit(callId, call, onAsked);
    if (slot.kind === 'refused') return this.#asked.deny(callId, asked, slot);
    this.#setEnv.set(callId, slot.setEnv);

    try {
      const end = await this.#asked.intend(callId, asked, slot);
      making.begun();
      const started = performance.now();
      const performed = this.#perform(callId, call, end, started);
      const result = withWarning(await (call.tool === 'exec' ? performed : underWay.finish(performed)), slot.warning);
      const kept = making.keep(result);
      await kept.catch(() => undefined); // how it ended is told all the same
      const command = this.#started.get(callId);
      if (command !== undefined) await commands.record(command, end, slot.release);
      else {
        await end({ ...endOfVerb(result, performance.now() - started), ...attribution.written(callId) });
        slot.release();
      }
      await failpoint('call.recorded');
      await kept;
      return result;
    } catch (error) {
      slot.release();
      throw error;
    } finally {
      this.#setEnv.delete(callId);
      this.#started.delete(callId);
    }
  }

  /** What was asked is kept before. */
  close(): Promise<void> {
    return this.#asked.close();
  }

  /** A fault of ours in the middle of a call is on record before it is thrown. */
  async #perform(callId: string, call: ToolCall, end: RecordEnd, startedMs: number): Promise<ToolResult> {
    try {
      await failpoint('call.intended');
      const result = await this.#beside.attribution.perform(this.context, callId, call);
      await failpoint('call.ended');
      return result;
    } catch (error) {
      if (this.#beside.underWay.over !== undefined) throw error; // how it ended is for the next runner to tell
      const code = error instanceof RunnerError ? error.code : 'internal';
      await end({
        outcome: code === 'sandbox_lost' ? { kind: 'sandbox_lost', reason: messageOf(error) } : { kind: 'failed' },
        ms: Math.round(performance.now() - startedMs),
        error: { code, message: messageOf(error) },
      });
      throw error;
    }
  }

  async #start(callId: string, spec: ExecSpec): Promise<RunningCall> {
    const { sandbox, fence, policy } = this.#parts;
    const given = { ours: fence?.environment(callId) ?? {}, ruled: this.#setEnv.get(callId) ?? {} };
    const bounded = boundedSpec(policy.policy, spec, given);
    if (fence === undefined) return sandbox.start(callId, bounded);
    return fence.calls.during(callId, () => sandbox.start(callId, bounded));
  }
}
