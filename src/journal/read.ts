import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { RunnerError } from '../errors.ts';
import { parseLine } from './chain.ts';
import type { Entry } from './entry.ts';
import { LineReader, type Line, type LineSource } from './lines.ts';
import { WriterLock } from './lock.ts';

export interface ReadOptions {
  /** Default 1. */
  readonly fromSeq?: number;
  readonly signal?: AbortSignal;
}

/** The entries that are there now. A last line without its newline is still being written, and not given. */
export async function* readEntries(path: string, options: ReadOptions = {}): AsyncGenerator<Entry, void> {
  const file = await openJournal(path);
  try {
    yield* entriesIn(file, path, options);
  } finally {
    await file.close();
  }
}

/** The same of a journal that is open already, or that lies within another file; `name` is for messages. */
export async function* entriesIn(
  source: LineSource,
  name: string,
  options: ReadOptions = {},
): AsyncGenerator<Entry, void> {
  const reader = new LineReader(source);
  for (let line = await reader.next(); line !== undefined; line = await reader.next()) {
    options.signal?.throwIfAborted();
    const entry = parse(name, line);
    if (entry.seq >= (options.fromSeq ?? 1)) yield entry;
  }
}

/** ... and those to come, until the run is closed, its writer is gone, or the signal aborts. */
export async function* followEntries(
  path: string,
  options: ReadOptions & { readonly pollMs?: number } = {},
): AsyncGenerator<Entry, void> {
  const { fromSeq = 1, signal, pollMs = 100 } = options;
  const file = await openJournal(path);
  try {
    const reader = new LineReader(file);
    for (;;) {
      if (signal?.aborted === true) return;
      let line = await reader.next();
      if (line === undefined && !(await WriterLock.isHeld(path))) {
        line = await reader.next(); // the last words of a writer that has just left
        if (line === undefined) return;
      }
      if (line === undefined) {
        await sleep(pollMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
        continue;
      }
      const entry = parse(path, line);
      if (entry.seq >= fromSeq) yield entry;
      if (entry.type === 'run.closed') return;
    }
  } finally {
    await file.close();
  }
}

async function openJournal(path: string) {
  return open(path, 'r').catch((cause: Error) => {
    throw new RunnerError('invalid_request', `cannot read the journal ${path}: ${cause.message}`, { cause });
  });
}

/** Form only: whether the chain holds is `checkJournal`'s to say. */
function parse(path: string, line: Line): Entry {
  const parsed = line.tooLong ? undefined : parseLine(line.text);
  if (parsed?.kind === 'entry') return parsed.entry;
  const problem = parsed?.message ?? 'is longer than any entry';
  throw new RunnerError('journal_broken', `line ${line.number} of ${path} ${problem}; run "glovebox check" on it`);
}
