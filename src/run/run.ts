import type { Duplex } from 'node:stream';
import type { Remaining } from '../budget/budget.ts';
import type { ContextSnapshotInput } from '../context/context-snapshot.ts';
import type { Worker } from '../context/context-story.ts';
import type { RunDir } from '../data-dir/data-dir.ts';
import type { RunState } from '../control/controlled.ts';
import { RunnerError, messageOf } from '../errors.ts';
import { failpoint } from '../failpoint.ts';
import type { EntryData, Participation } from '../journal/entry.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import type { RunningCall } from '../sandbox/call.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import type { RunFingerprints } from './fingerprints.ts';
import type { RunImage, RunSnapshot, RunSnapshotOptions } from './snapshot.ts';
import type { Answers } from './answers.ts';
import type { AttachedContext } from './contexts.ts';
import { answerLate } from './late-answer.ts';
import { CallRequest } from './call-request.ts';
import { CallsUnderWay } from './calls-under-way.ts';
import { Commands } from './commands.ts';
import { Dispatch } from './dispatch.ts';
import type { Exported } from './export.ts';
import { recordLoss } from './record-loss.ts';
import { RunFiles } from './run-files.ts';
import type { RunParts, Told } from './run-parts.ts';
import { WaitingCall } from './waiting.ts';
import { parseCall } from '../tools/parse-call.ts';
import { describeTools, type ToolDescription } from '../tools/describe.ts';
import { runTool } from '../tools/run-tool.ts';
import { isObserver, ToolCall, type ToolCallInput } from '../tools/tool-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import type { Base } from '../workspace/base/import.ts';

export type CloseReason = 'finished' | 'failed' | 'cancelled';

/**
 * One delegated task, from open to closed. Promises:
 *  - every call goes its way on record (`dispatch.ts`), and the same call id twice is the same call: it never runs twice, and
 *    whoever asks for something else under it is refused (`call_id_reused`);
 *  - once somebody has asked for its end no call begins;
 *  - whatever fails as it closes, nothing of its sandbox is left that recovery does not find.
 */
export class Run {
  readonly id: string;
  readonly dir: RunDir;
  readonly policy: LoadedPolicy;
  readonly sandbox: Sandbox;
  readonly image: RunImage;
  readonly base: Base;
  /** What its environment was, and is. */
  readonly fingerprints: RunFingerprints;
  /** Resolves when it is closed or handed over, however that went. */
  readonly over: Promise<void>;
  /** What it was closed with, or stopped for; empty where nobody said. */
  summary = '';
  /** As what it is on record as closed. */
  outcome: EntryData<'run.closed'>['outcome'] | undefined;
  readonly #parts: RunParts;
  readonly #files: RunFiles;
  readonly #commands: Commands;
  readonly #dispatch: Dispatch;
  readonly #underWay = new CallsUnderWay();
  readonly #answers: Answers;
  readonly #waiting = new Map<string, WaitingCall>();
  readonly #openedMs: number;
  #closing: Promise<void> | undefined;
  #isHandedOver = false;
  #tellOver: () => void = () => undefined;
  #candidate: Exported | undefined;

  constructor(parts: RunParts) {
    this.#parts = parts;
    this.#files = new RunFiles(parts);
    this.#answers = parts.answers;
    this.#openedMs = performance.now() - (parts.resumed?.openedMsAgo ?? 0);
    this.#commands = new Commands(parts, this.#files.attribution);
    this.id = parts.dir.id;
    this.fingerprints = parts.fingerprints;
    ({ dir: this.dir, policy: this.policy, sandbox: this.sandbox, image: this.image, base: this.base } = parts);
    const { attribution } = this.#files;
    this.#dispatch = new Dispatch(parts, { attribution, commands: this.#commands, underWay: this.#underWay });
    this.over = new Promise((resolve) => {
      this.#tellOver = resolve;
    });
    void recordLoss(parts.sandbox, parts.journal, parts.drift);
    if (parts.resumed !== undefined) this.#commands.goOn(parts.resumed, this.#dispatch.context);
  }

  /** Every tool call goes this way. Failures of the agent's own making are results; `RunnerError` is for ours. */
  async call(callId: string, input: ToolCallInput, told: Told = {}): Promise<ToolResult> {
    const call = parseCall(callId, input);
    const request = new CallRequest(call);
    if (isObserver(call)) return this.#dispatch.observe(callId, { request, told });
    const left = this.#parts.resumed?.unanswered.get(callId);
    if (left !== undefined) await request.refuseOther(callId, left);
    const shown = this.#parts.resumed && this.#parts.approvals.shownFor(callId);
    if (shown !== undefined) await request.refuseOtherThanShown(callId, shown);
    const waiting = this.#waiting.get(callId) ?? new WaitingCall();
    const answer = this.#answers.once(callId, request, (making) => {
      if (left !== undefined) return answerLate(this.#dispatch.context, callId, call, making);
      this.#refuseClosed();
      this.#waiting.set(callId, waiting);
      const asked = { request, told };
      const dispatched = this.#dispatch
        .make(callId, asked, waiting.onAsked, making)
        .finally(() => this.#waiting.delete(callId));
      void waiting.asked.then(() => this.#commands.track(dispatched.then(() => undefined)));
      return dispatched;
    });
    return this.#underWay.wait(waiting.answerWithin(this.#parts.waitingAfterMs, call.tool, callId, answer));
  }

  /** What was answered to a call, also once the run is closed; undefined where there is no answer yet. Nothing runs. */
  answer(callId: string): Promise<ToolResult | undefined> {
    return this.#answers.find(callId);
  }

  /** The last word on a call that is being made, however long people think about it; undefined where none is. */
  making(callId: string): Promise<ToolResult> | undefined {
    return this.#answers.making(callId);
  }

  /** Nothing will begin under this id any more: it is answered, or a runner before has begun it. */
  isPast(callId: string): boolean {
    return this.#answers.has(callId) || this.#parts.resumed?.unanswered.has(callId) === true;
  }

  /** What is offered here: what is not is neither listed nor answered. */
  tools(): readonly ToolDescription[] {
    return describeTools(this.policy.policy.tools.allow);
  }

  /** How a command stands, for whoever opened the run; what runs inside asks with `exec_poll`, where that is offered. */
  poll(callId: string, yieldMs: number): Promise<ToolResult> {
    return runTool(this.#dispatch.context, callId, ToolCall.parse({ tool: 'exec_poll', callId, yieldMs }));
  }

  /** A command of this run that runs or has just ended, for reading along. */
  findCommand(callId: string): RunningCall | undefined {
    return this.#commands.find(callId);
  }

  /** What is left of the budget. */
  remaining(): Remaining {
    return this.#parts.budget.remaining();
  }

  /** What of its egress and credentials is left. */
  reach(): RunState {
    return this.#parts.control.state();
  }

  /** Resolves when its sandbox is gone, also when it was closed. */
  get lost(): Sandbox['lost'] {
    return this.sandbox.lost;
  }

  /** Takes profiles, rules or upstreams away, by id, for the rest of the run; what they had let through is cut. */
  narrowEgress(without: readonly string[]): Promise<RunState> {
    return this.#parts.control.narrowEgress(without);
  }

  /** Nothing is sent with it any more, and what carries it is cut. */
  revokeCredential(name: string): Promise<RunState> {
    return this.#parts.control.revokeCredential(name);
  }

  /** A connection to a port on the loopback inside. */
  forward(port: number): Promise<Duplex> {
    return this.#parts.control.forward(port);
  }

  /** What its agent believes from here on; the same one twice is the same. `by`: whose it is, where a service does it. */
  async attachContext(snapshot: ContextSnapshotInput, by?: string): Promise<AttachedContext> {
    this.#refuseClosed();
    return this.#parts.contexts.attach(snapshot, by);
  }

  /** Who works in it, as far as anybody has said. */
  get worker(): Worker {
    return this.#parts.contexts.worker;
  }

  /** That somebody takes part in it who has made no call. */
  async noteParticipant(by: string, how: Participation): Promise<void> {
    await this.#parts.journal.append({ type: 'participant.joined', data: { by, how } });
  }

  #refuseClosed(): void {
    if (this.#underWay.over !== undefined) throw this.#underWay.over;
    const why = this.summary && `: ${this.summary}`;
    if (this.#closing !== undefined)
      throw new RunnerError('run_not_open', `run ${this.id} is closed${why}; open another one`);
  }

  /** The changes so far, in the write scope, with what was refused or stood outside. Call it while no command runs. */
  async diff(): Promise<Exported> {
    if (this.#candidate !== undefined) return this.#candidate;
    this.#commands.refuseWhileRunning('ask for the diff');
    return this.#files.collect();
  }

  /** Where the run stands, to fork from or to come back to. Call it while no command runs. */
  async snapshot({ after, ...options }: RunSnapshotOptions = {}): Promise<RunSnapshot> {
    this.#commands.refuseWhileRunning('take the snapshot');
    if (after !== undefined) {
      await after;
      this.#commands.refuseWhileRunning('take the snapshot');
    }
    return this.#files.snapshot(options);
  }

  /** Back to a snapshot of a run with the same base. Processes that the agent left, /tmp and home stay as they are. */
  async restore(snapshot: RunSnapshot): Promise<void> {
    this.#commands.refuseWhileRunning('restore the snapshot');
    await this.#files.restore(snapshot);
  }

  /**
   * Ends what still runs, takes the diff, seals the journal, removes the sandbox. May be called twice.
   * A sandbox that is lost has no diff; the journal says so.
   */
  close(reason: CloseReason = 'finished', summary = ''): Promise<void> {
    if (this.#closing === undefined) this.summary = summary;
    this.#closing ??= this.#close(reason, summary).finally(() => this.#tellOver());
    return this.#closing;
  }

  /**
   * Lets go of the run: its sandbox runs on, and its commands in it, for the next runner to resume (within three minutes). Calls
   * that wait here are told `draining`. Nothing is recorded as closed.
   */
  handOver(): Promise<void> {
    this.#isHandedOver ||= this.#closing === undefined;
    this.#closing ??= this.#handOver().finally(() => this.#tellOver());
    return this.#closing;
  }

  async #handOver(): Promise<void> {
    const { journal, sandbox, approvals, control } = this.#parts;
    const text = `run ${this.id} is handed over to the next runner; make the call again, with its id, in a moment`;
    await this.#underWay.drain(new RunnerError('draining', text), verbsWithinMs);
    approvals.handOver();
    this.#underWay.tell();
    await this.fingerprints.handOver();
    await control.close('goes on');
    await sandbox.handOver();
    await this.#answers.handOver();
    await Promise.all([this.#dispatch.close(), this.#files.attribution.close()]);
    await journal.close();
  }

  async #close(reason: CloseReason, summary: string): Promise<void> {
    const { journal, sandbox } = this.#parts;
    try {
      this.#parts.approvals.cancelCalls();
      await this.#parts.approvals.settled();
      await this.#commands.end();
      await this.#parts.control.close(); // nothing passes while the diff is taken
      const lost = sandbox.state !== 'running';
      const looked = this.#parts.drift.closing().then(() => this.fingerprints.end()); // beside the diff
      if (!lost) this.#candidate = await this.#files.collect(this.#parts.isVerify !== true);
      await looked;
      await failpoint('close.collected');
      await this.#seal(lost ? 'lost' : this.#parts.drift.failed ? 'failed' : reason, summary);
      await failpoint('close.journaled');
    } catch (error) {
      const outcome = sandbox.state === 'running' ? 'failed' : 'lost';
      await this.#parts.control.close();
      // Sealed already, or the journal itself is what failed: then what stands there stands.
      await this.#seal(outcome, `did not close: ${messageOf(error)}`).catch(() => undefined);
      throw error;
    } finally {
      try {
        await sandbox.close();
        try {
          await failpoint('close.destroyed');
        } finally {
          // A container that could not be removed keeps its volume, and what says whose it is: recovery finds it by that.
          await this.#parts.placement.discard(this.dir);
        }
      } finally {
        await this.#answers.close();
        await Promise.all([this.#dispatch.close(), this.#files.attribution.close()]);
        await this.dir.dropKept();
        await journal.close();
      }
    }
  }

  async #seal(outcome: EntryData<'run.closed'>['outcome'], summary: string): Promise<void> {
    const { journal } = this.#parts;
    const ms = Math.round(performance.now() - this.#openedMs);
    const data = { outcome, summary, ...journal.totals, outputBytes: this.#commands.outputBytes, ms };
    await journal.append({ type: 'run.closed', data });
    this.outcome = outcome;
  }

  /** Somebody has asked for its end: whoever opened it, or what stops a run. */
  get isClosing(): boolean {
    return this.#closing !== undefined && !this.#isHandedOver;
  }

  /** What was taken at close; undefined before it, and when the sandbox was lost. */
  get candidate(): Exported | undefined {
    return this.#candidate;
  }
}

const verbsWithinMs = 5_000;
