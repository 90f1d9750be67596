import { isRunnerError } from '../errors.ts';
import { isObserver, ToolCall, type ToolCallInput } from '../tools/tool-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import type { EventLog } from './event-log.ts';
import { FairTurns } from './fair-turns.ts';
import type { OpenRun } from './open-run.ts';
import type { Principal } from './principal.ts';

const tools: ReadonlySet<string> = new Set(ToolCall.options.map((option) => option.shape.tool.value));

/** Of calls that begin: a call that lasts longer than this lets the next one begin. */
const turns = { atOnce: 32, waitingMax: 1_024, waitMaxMs: 30_000 };
const turnMs = 50;

/** Makes calls, team after team, and tells of them: each is told of once, however often its id is asked for. */
export class CallRecord {
  readonly #events: EventLog;
  readonly #turns: FairTurns;
  readonly #running = new Set<Promise<unknown>>();
  readonly #answering = new Set<Promise<unknown>>();

  constructor(events: EventLog, weightOf: (team: string) => number) {
    this.#events = events;
    this.#turns = new FairTurns({ ...turns, weightOf });
  }

  get waiting(): number {
    return this.#turns.stats().waiting;
  }

  async make(entry: OpenRun, principal: Principal, callId: string, input: ToolCallInput): Promise<ToolResult> {
    // What is no call at all is refused below, and not told of.
    if (isObserver(input) || !tools.has(input.tool)) return entry.run.call(callId, input, { by: principal.identity });
    const turn = await this.#turns.take(entry.row.team);
    const given = setTimeout(() => turn.give(), turnMs);
    const answer = entry.run.call(callId, input, { by: principal.identity });
    entry.running += 1;
    const told = this.#tell(entry, principal, callId, input.tool, answer);
    const tracked = told.finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
    this.#answering.add(answer);
    try {
      return await answer;
    } finally {
      this.#answering.delete(answer);
      clearTimeout(given);
      turn.give();
      entry.running -= 1;
    }
  }

  /** Resolves once every call is answered, or its command has ended as well, or `timeoutMs` have passed. */
  async quiet(timeoutMs: number, until: 'answered' | 'ended'): Promise<void> {
    const waited = until === 'answered' ? this.#answering : this.#running;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    const all = async (): Promise<void> => {
      while (waited.size > 0) await Promise.allSettled(waited);
    };
    await Promise.race([all(), late]);
    clearTimeout(timer);
  }

  /** Never rejects. Ends when the command does, which may be long after the answer; for people to decide it does not wait. */
  async #tell(
    { run, row, seen }: OpenRun,
    { identity: by }: Principal,
    callId: string,
    tool: string,
    answer: Promise<ToolResult>,
  ): Promise<void> {
    const common = { run: run.id, team: row.team, callId, tool };
    const known = seen.get(callId);
    const mark = known ?? { beganMs: performance.now(), ended: false };
    if (known === undefined) {
      seen.set(callId, mark);
      this.#events.push({ type: 'call.started', at: now(), ...common, by }, row);
    }
    const tellEnd = (outcome: string): void => {
      if (mark.ended) return;
      mark.ended = true;
      const ms = Math.round((performance.now() - mark.beganMs) * 1000) / 1000;
      this.#events.push({ type: 'call.ended', at: now(), ...common, outcome, ms }, row);
    };
    const fail = (error: unknown): void => {
      if (known !== undefined && isRunnerError(error, 'call_id_reused')) return; // of the call itself it says nothing
      if (seen.get(callId) === mark) seen.delete(callId); // it may never have been made
      tellEnd('failed');
    };
    const tell = async (result: ToolResult): Promise<void> => {
      const command = tool === 'exec' ? run.findCommand(callId) : undefined;
      if (command !== undefined) return tellEnd((await command.ended).outcome.kind);
      if (!isWaiting(result))
        return tellEnd(result.ok ? 'done' : result.error?.code === 'denied' ? 'denied' : 'failed');
      // It is made as soon as it is approved, whether or not anybody asks for it again.
      const last = run.making(callId) ?? run.answer(callId).then((found) => found ?? result);
      void last.then((late) => (isWaiting(late) ? undefined : tell(late))).catch(fail);
    };
    await answer.then(tell).catch(fail);
  }
}

function isWaiting({ error }: ToolResult): boolean {
  return error?.code === 'waiting_for_approval';
}

function now(): string {
  return new Date().toISOString();
}
