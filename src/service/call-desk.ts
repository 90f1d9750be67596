import { CallRequest } from '../run/call-request.ts';
import type { Scope } from '../store/key-row.ts';
import { isObserver, type ToolCallInput } from '../tools/tool-call.ts';
import { parseCall } from '../tools/parse-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import type { Access } from './access.ts';
import { answerOf, outputOf, recordedAnswer, type WaitFor } from './call-answers.ts';
import type { CallOutput } from './call-output.ts';
import type { CallRecord } from './call-record.ts';
import type { LiveRuns } from './live-runs.ts';
import type { KnownRun, OpenRun } from './open-run.ts';
import type { Participants } from './participants.ts';
import type { Principal } from './principal.ts';

interface CallDeskParts {
  /** Who asks has this scope, and one more call to make; throws what refuses it. */
  readonly ask: (principal: Principal, scope: Scope) => void;
  readonly access: Pick<Access, 'require'>;
  readonly live: Pick<LiveRuns, 'get'>;
  /** Throws `run_not_found`. */
  readonly known: (principal: Principal, run: string) => KnownRun;
  /** One that is open; throws `run_not_open` besides. */
  readonly find: (principal: Principal, run: string, scope: Scope) => OpenRun;
  readonly participants: Participants;
  readonly record: CallRecord;
}

/** Calls of runs, as clients make them, ask for them and stop them. Nobody who stops waiting for a call ends it. */
export class CallDesk {
  readonly #parts: CallDeskParts;

  constructor(parts: CallDeskParts) {
    this.#parts = parts;
  }

  /** The same id is the same call, whoever waits for it; of a closed run it is what was answered. Throws `call_id_reused`. */
  async make(principal: Principal, runId: string, callId: string, input: ToolCallInput): Promise<ToolResult> {
    const { ask, live, known, find, participants, record } = this.#parts;
    ask(principal, 'call');
    if (live.get(runId) === undefined) {
      const { dir } = known(principal, runId);
      const recorded = await recordedAnswer(dir, callId, new CallRequest(parseCall(callId, input)));
      if (recorded !== undefined) return recorded;
    }
    const entry = find(principal, runId, 'call');
    if (isObserver(input)) await participants.join(principal, entry, 'looked');
    else participants.joinByCall(principal, entry);
    return record.make(entry, principal, callId, input);
  }

  /** Whoever may call may stop, as `closeRun` does, whatever policy and quotas say; twice is fine. Throws `call_not_found`. */
  async cancel(principal: Principal, runId: string, callId: string): Promise<ToolResult> {
    const { known, find, participants } = this.#parts;
    const entry = find(principal, runId, 'call');
    const command = entry.run.findCommand(callId);
    if (command === undefined) await answerOf(known(principal, runId), callId, 0);
    else if (command.result === undefined)
      await participants.joinBeside(principal, entry, 'stopped_call', async () => command.kill());
    return { callId, tool: 'exec_kill', ok: true, text: 'Done.', data: { kind: 'done' }, error: null };
  }

  /** A command as it stands now, else what was recorded; throws `call_not_found`. Makes no call. */
  async answer(principal: Principal, runId: string, callId: string, waitMs: number): Promise<ToolResult> {
    this.#parts.ask(principal, 'call');
    return answerOf(this.#parts.known(principal, runId), callId, waitMs);
  }

  /** Throws `call_not_found`. */
  async output(principal: Principal, runId: string, callId: string, wait: WaitFor): Promise<CallOutput> {
    this.#parts.access.require(principal, 'call');
    return outputOf(this.#parts.known(principal, runId), callId, wait);
  }
}
