import { RunnerError } from '../errors.ts';
import type { RecordEnd } from '../journal/writer.ts';
import type { RunningCall } from '../sandbox/call.ts';
import type { EndedCall } from '../sandbox/ended-call.ts';
import { CallTable } from '../tools/call-table.ts';
import { takeUpCall } from '../tools/take-up.ts';
import type { ToolContext } from '../tools/tool-context.ts';
import { endOfCommand } from './entries.ts';
import type { FileAttribution } from './file-attribution.ts';
import { outputDigest } from './output-digest.ts';
import type { Resumed, RunParts } from './run-parts.ts';

/** The commands of one run: those that run, and the latest that have ended; how each of them ends is recorded. */
export class Commands {
  readonly #parts: RunParts;
  readonly #attribution: Pick<FileAttribution, 'starting'>;
  readonly #table = new CallTable<RunningCall>();
  readonly #recording = new Set<Promise<void>>();
  #outputBytes: number;

  constructor(parts: RunParts, attribution: Pick<FileAttribution, 'starting'>) {
    this.#parts = parts;
    this.#attribution = attribution;
    this.#outputBytes = parts.resumed?.outputBytes ?? 0;
  }

  /** Of all that have ended. */
  get outputBytes(): number {
    return this.#outputBytes;
  }

  async start(callId: string, start: () => Promise<RunningCall>): Promise<RunningCall> {
    const command = await this.#attribution.starting(callId, start);
    this.#table.add(command);
    return command;
  }

  find(callId: string): RunningCall | undefined {
    return this.#table.find(callId);
  }

  /** Its end is put on record when it comes; resolves at once where that is still to come. */
  async record(command: RunningCall, end: RecordEnd, release: () => void): Promise<void> {
    const recorded = command.ended.then(() => this.#record(command, end, release));
    if (command.result === undefined) this.track(recorded);
    else await recorded;
  }

  /** Those of the runner before: what runs is ours now, and how the others ended is told. */
  goOn({ running, ended, open, sessions }: Resumed, context: ToolContext): void {
    const { journal, budget, fence } = this.#parts;
    for (const [name, state] of sessions) context.sessions.set(name, state);
    for (const command of running) {
      this.#table.add(command);
      if (command.result === undefined) void fence?.calls.during(command.id, async () => command);
    }
    for (const command of [...running, ...ended]) {
      const intended = open.get(command.id);
      takeUpCall(context, command, intended?.arguments);
      if (intended !== undefined) this.track(this.#record(command, journal.endOf(command.id), budget.holdOn()));
    }
  }

  /** To be on record before the run is closed. */
  track(work: Promise<void>): void {
    const tracked = work.catch(() => undefined).finally(() => this.#recording.delete(tracked));
    this.#recording.add(tracked);
  }

  refuseWhileRunning(then: string): void {
    const running = this.#table.list().filter((command) => !command.output.finished);
    if (running.length === 0) return;
    const ids = running.map((command) => command.id).join(', ');
    throw new RunnerError(
      'invalid_request',
      `commands are still running (${ids}); wait for them or end them with exec_kill, then ${then}`,
    );
  }

  /** Ends what still runs, descendants that were kept too; resolves when no process is left and all is on record. */
  async end(): Promise<void> {
    const commands = this.#table.list();
    for (const command of commands) if (!command.output.finished) command.kill({ graceMs: 500 });
    await Promise.all(commands.map((command) => command.gone));
    await Promise.all(this.#recording);
  }

  async #record(command: RunningCall | EndedCall, end: RecordEnd, release: () => void): Promise<void> {
    const result = await command.ended;
    release();
    const bytes = result.output.totalBytes;
    this.#outputBytes += bytes;
    this.#parts.budget.countOutput(bytes);
    this.#parts.budget.countCpu(result.cpuMs);
    await end(endOfCommand(result, { bytes, digest: await outputDigest(command.output), ref: `calls/${command.id}` }));
    void this.#parts.drift.called(command.id, result);
  }
}
