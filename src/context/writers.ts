import type { EntryData } from '../journal/entry.ts';

/** A command, or whatever else writes without saying what. */
export interface Writer {
  readonly callId: string;
  /** By the wall clock of this machine. */
  readonly begunMs: number;
  /** Of the command itself; undefined while it runs. */
  endedMs: number | undefined;
  /** When no process of it was left; undefined while one may be. */
  goneMs: number | undefined;
}

export type Suspects = Pick<EntryData<'files.seen'>, 'calls' | 'from' | 'to' | 'late'>;

/**
 * Who may have written since somebody last looked, in the order in which they began. Memory is bounded: of very many the first and
 * the latest are known one by one.
 */
export class Writers {
  #all: Writer[] = [];
  /** Between the first and the second, not known one by one any more. */
  #between = 0;

  get any(): boolean {
    return this.#all.length > 0;
  }

  get anyRuns(): boolean {
    return this.#all.some(({ goneMs }) => goneMs === undefined);
  }

  begin(callId: string, begunMs: number): Writer {
    const writer: Writer = { callId, begunMs, endedMs: undefined, goneMs: undefined };
    this.#all.push(writer);
    if (this.#all.length > writersMax) {
      this.#all.splice(1, 1);
      this.#between++;
    }
    return writer;
  }

  /** Those who had begun when something was written; undefined: at whatever time. */
  suspects(writtenMs?: number): Suspects {
    const able = this.#all.filter(({ begunMs }) => writtenMs === undefined || begunMs <= writtenMs + clockSlackMs);
    const [first, last] = [able[0], able.at(-1)];
    if (first === undefined || last === undefined) return { calls: 0 };
    const calls = able.length + (first === this.#all[0] ? this.#between : 0);
    if (calls > 1) return { calls, from: first.callId, to: last.callId };
    const isLate = first.endedMs !== undefined && writtenMs !== undefined && writtenMs > first.endedMs + clockSlackMs;
    return { calls, from: first.callId, ...(isLate ? { late: true } : {}) };
  }

  /** Everything that was written before `sinceMs` has been seen: who can write no more is none of them. */
  seenSince(sinceMs: number): void {
    this.#all = this.#all.filter(({ goneMs }) => goneMs === undefined || goneMs >= sinceMs);
    this.#between = 0;
  }
}

const writersMax = 1024;
/** The kernel's times of files lag behind by as much as a tick, at most 10 ms; and clocks are read a little later. */
const clockSlackMs = 20;
