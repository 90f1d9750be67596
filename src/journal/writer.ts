import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Deadline } from '../deadline.ts';
import type { Digest } from '../digest.ts';
import { isRunnerError, messageOf, RunnerError } from '../errors.ts';
import { clipTexts } from './bound-arguments.ts';
import { sealEntry } from './chain.ts';
import { lineBytesMax, type Draft, type Entry, type EntryData } from './entry.ts';
import { JournalFile } from './journal-file.ts';
import { WriterLock } from './lock.ts';
import { syncDirectory, takeUp, type Recovery } from './recover.ts';
import { freshState, nextState, refuseNonsense, type JournalState } from './state.ts';

/**
 * The one writer of a run's journal. Promises:
 *  - an append that resolved is in the file, after everything appended before it, as one whole line;
 *  - one writer per file, also across processes;
 *  - after one failed or late write nothing is accepted any more (`journal_unavailable`): without a record, no effect;
 *  - what cannot be told is refused: an outcome without intent, a second one, anything after the end.
 */
export class Journal {
  readonly path: string;
  readonly run: string;
  readonly #file: JournalFile;
  readonly #lock: WriterLock;
  readonly #options: Required<JournalOptions>;
  readonly #startMs: number;
  readonly #queue: Pending[] = [];
  #draining: Promise<void> | undefined;
  #poison: RunnerError | undefined;
  #state: JournalState;

  private constructor(
    path: string,
    run: string,
    file: JournalFile,
    lock: WriterLock,
    options: JournalOptions,
    state: JournalState,
  ) {
    this.path = path;
    this.run = run;
    this.#file = file;
    this.#lock = lock;
    this.#options = { ...defaults, ...options };
    this.#startMs = this.#options.clock.monoMs() - state.mono;
    this.#state = state;
  }

  /** The file must not exist. */
  static async create(path: string, run: string, options: JournalOptions = {}): Promise<Journal> {
    const lock = await WriterLock.acquire(path);
    try {
      const file = await open(path, 'ax', 0o600);
      if (options.durability === 'power') await syncDirectory(dirname(path));
      const own = await JournalFile.of(file, path, writesAtOnce(options));
      return new Journal(path, run, own, lock, options, freshState());
    } catch (cause) {
      await lock.release();
      throw new RunnerError('journal_unavailable', `cannot make the journal ${path}: ${messageOf(cause)}`, { cause });
    }
  }

  /**
   * Takes up the journal of a run whose writer is gone: cuts off a torn last line, closes intents without an outcome as
   * `sandbox_lost`. `journal_broken` when the chain is, `run_not_open` when the run is closed. Twice changes nothing more.
   */
  static reopen(path: string, options: JournalOptions = {}): Promise<TakenUp> {
    return Journal.#takeUp(path, options, 'close');
  }

  /**
   * The same of a run that goes on: its calls stay open, and `endOf` says how each of them ended. `runMs`: the time of the run now,
   * where somebody has counted; else the wall clock says how long nobody wrote.
   */
  static resume(path: string, options: ResumeJournalOptions = {}): Promise<TakenUp> {
    return Journal.#takeUp(path, options, 'leave open');
  }

  static async #takeUp(path: string, options: ResumeJournalOptions, calls: 'close' | 'leave open'): Promise<TakenUp> {
    const lock = await WriterLock.acquire(path);
    const { clock = defaults.clock, runMs } = options;
    let journal: Journal | undefined;
    try {
      const { run, file, state, recovery } = await takeUp(path, {
        nowMs: clock.nowMs(),
        ...(runMs === undefined ? {} : { runMs }),
      });
      const own = await JournalFile.of(file, path, writesAtOnce(options));
      journal = new Journal(path, run, own, lock, options, state);
      await journal.#recordRecovery(recovery, calls === 'close' ? recovery.closedCalls : []);
      return { journal, recovery };
    } catch (error) {
      await journal?.close();
      await lock.release();
      throw error;
    }
  }

  /** Resolves once the entry is in the file (`process`) or on the disk (`power`). Entries are ordered as called. */
  append(draft: Draft): Promise<Entry> {
    try {
      const sealed = this.#seal(draft);
      if (this.#draining === undefined && this.#writeAtOnce(sealed.line)) return Promise.resolve(sealed.entry);
      return new Promise((resolve, reject) => {
        this.#queue.push({ ...sealed, resolve, reject });
        this.#draining ??= this.#drain();
      });
    } catch (error) {
      return Promise.reject(asRunnerError(error, draft.type));
    }
  }

  /** Records that a call is about to happen; what it returns records how it ended. Nothing may start before it resolves. */
  async intend(call: EntryData<'call.intended'>): Promise<RecordEnd> {
    await this.append({ type: 'call.intended', data: call });
    return this.endOf(call.callId);
  }

  /** For a call whose intent is on record. */
  endOf(callId: string): RecordEnd {
    return (end) => this.append({ type: 'call.ended', data: { ...end, callId } });
  }

  /** Hash of the last entry. */
  get head(): Digest {
    return this.#state.head;
  }

  get entries(): number {
    return this.#state.seq;
  }

  /** What `run.closed` has to state. */
  get totals(): { readonly calls: number; readonly denied: number } {
    return { calls: this.#state.calls, denied: this.#state.denied };
  }

  /** The time of its run, as the next entry would say it (`mono`). */
  get runMs(): number {
    return Math.max(this.#state.mono, this.#options.clock.monoMs() - this.#startMs);
  }

  get openCalls(): readonly string[] {
    return [...this.#state.open];
  }

  /** Ends the writing, not the run: `run.closed` is the caller's to say. May be called twice. */
  async close(): Promise<void> {
    await this.#draining;
    this.#poison ??= new RunnerError('journal_unavailable', `the journal ${this.path} is closed`);
    const { deadlineMs } = this.#options;
    await Deadline.run(deadlineMs, `close ${this.path}`, () => this.#file.close(), 'journal_unavailable').catch(
      () => undefined,
    );
    await this.#lock.release();
  }

  /** Synchronous, so that the order of entries is the order of calls. On a throw nothing has changed. */
  #seal(draft: Draft): { entry: Entry; line: string } {
    if (this.#poison !== undefined) throw this.#poison;
    if (this.#queue.length >= queueMax) {
      throw new RunnerError('journal_unavailable', `${queueMax} entries wait for the disk of ${this.path}`);
    }
    refuseNonsense(draft, this.#state);
    const { clock } = this.#options;
    const { entry, line } = sealEntry(clipTexts(draft), {
      seq: this.#state.seq + 1,
      prev: this.#state.head,
      run: this.run,
      at: new Date(clock.nowMs()).toISOString(),
      mono: Math.max(this.#state.mono, Math.round(this.runMs * 1000) / 1000),
    });
    if (line.length > lineBytesMax) {
      throw new RunnerError(
        'limit_exceeded',
        `an entry ${draft.type} of more than ${lineBytesMax} bytes; bound its data`,
      );
    }
    this.#state = nextState(this.#state, entry);
    return { entry, line };
  }

  async #recordRecovery(
    { tornBytes, tornFile, closedEgress }: Recovery,
    closedCalls: readonly string[],
  ): Promise<void> {
    if (tornBytes === 0 && closedCalls.length === 0 && closedEgress.length === 0) return;
    const reason = 'the runner that wrote this journal is gone';
    const torn = { tornBytes, ...(tornFile === undefined ? {} : { tornFile }) };
    await this.append({
      type: 'journal.recovered',
      data: { reason, ...torn, closedCalls: closedCalls.slice(0, 1024) },
    });
    for (const callId of closedCalls) {
      await this.append({ type: 'call.ended', data: { callId, outcome: { kind: 'sandbox_lost', reason }, ms: 0 } });
    }
    for (const id of closedEgress) {
      const data = { id, result: 'cut', sentBytes: 0, receivedBytes: 0, ms: 0, reason } as const;
      await this.append({ type: 'egress.ended', data });
    }
  }

  async #drain(): Promise<void> {
    const { deadlineMs } = this.#options;
    for (let batch = this.#queue.splice(0); batch.length > 0; batch = this.#queue.splice(0)) {
      try {
        if (this.#poison !== undefined) throw this.#poison;
        const lines = Buffer.from(batch.map(({ line }) => line).join(''), 'latin1');
        await Deadline.run(deadlineMs, `write ${this.path}`, () => this.#write(lines), 'journal_unavailable');
        for (const { entry, resolve } of batch) resolve(entry);
      } catch (cause) {
        const poison = this.#poisoned(cause);
        for (const { reject } of batch) reject(poison);
      }
    }
    this.#draining = undefined;
  }

  /** False: it has to wait for its turn. */
  #writeAtOnce(line: string): boolean {
    const { deadlineMs } = this.#options;
    try {
      const tookMs = this.#file.writeAtOnce(line);
      if (tookMs !== undefined && tookMs > deadlineMs) throw new Error(`it took ${Math.round(tookMs)} ms`);
      return tookMs !== undefined;
    } catch (cause) {
      throw this.#poisoned(cause);
    }
  }

  #write(lines: Buffer): Promise<void> {
    return this.#file.write(lines, this.#options.durability === 'power');
  }

  #poisoned(cause: unknown): RunnerError {
    this.#poison ??= new RunnerError(
      'journal_unavailable',
      `writing the journal ${this.path} failed: ${messageOf(cause)}; nothing more is done in this run`,
      { cause },
    );
    return this.#poison;
  }
}

/** The journal of a dead writer, and what was wrong with it. */
export interface TakenUp {
  readonly journal: Journal;
  readonly recovery: Recovery;
}

export interface JournalOptions {
  /** What an entry survives once `append` has resolved: the end of this process, or of the machine's power. */
  readonly durability?: 'process' | 'power';
  /** Longest wait for one write. Default 5,000. */
  readonly deadlineMs?: number;
  /** Short lines are written at once where that is quick (`JournalFile`). Default true; never with `power`. */
  readonly atOnce?: boolean;
  readonly clock?: { nowMs(): number; monoMs(): number };
}

interface ResumeJournalOptions extends JournalOptions {
  readonly runMs?: number;
}

export type RecordEnd = (end: Omit<EntryData<'call.ended'>, 'callId'>) => Promise<Entry>;

interface Pending {
  readonly entry: Entry;
  /** ASCII, with its newline. */
  readonly line: string;
  readonly resolve: (entry: Entry) => void;
  readonly reject: (error: RunnerError) => void;
}

const queueMax = 4096;

const defaults: Required<JournalOptions> = {
  durability: 'process',
  deadlineMs: 5000,
  atOnce: true,
  clock: { nowMs: () => Date.now(), monoMs: () => performance.now() },
};

function writesAtOnce({ atOnce = true, durability }: JournalOptions): boolean {
  return atOnce && durability !== 'power';
}

function asRunnerError(error: unknown, type: string): RunnerError {
  if (isRunnerError(error)) return error;
  return new RunnerError('internal', `the journal cannot hold this ${type}: ${messageOf(error)}`, { cause: error });
}
