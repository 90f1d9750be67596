import { open, type FileHandle } from 'node:fs/promises';
import { RunnerError } from '../errors.ts';
import { parseLine } from './chain.ts';
import { lineBytesMax, type EntryData } from './entry.ts';
import { LineReader } from './lines.ts';

/** How a run began, and how it ended if it did: what is asked of many runs at once. */
export interface JournalEnds {
  readonly run: string;
  readonly openedAt: string;
  readonly opened: EntryData<'run.opened'>;
  readonly closedAt?: string;
  readonly closed?: EntryData<'run.closed'>;
}

/**
 * The first and the last whole line of a journal, however long it is. Whether the chain between them holds is `checkJournal`'s to
 * say. Undefined where there is no journal, or nothing whole in it yet; throws `journal_broken` for lines that no journal has.
 */
export async function readEnds(path: string): Promise<JournalEnds | undefined> {
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw new RunnerError('journal_unavailable', `cannot read the journal ${path}: ${error.message}`, { cause: error });
  });
  if (file === undefined) return undefined;
  try {
    const first = await new LineReader(file).next();
    if (first === undefined) return undefined;
    const opened = entryOf(path, first.text);
    if (opened.type !== 'run.opened') throw broken(path, `begins with ${opened.type}`);
    const begun = { run: opened.run, openedAt: opened.at, opened: opened.data };
    const last = entryOf(path, await lastLine(file));
    return last.type === 'run.closed' ? { ...begun, closedAt: last.at, closed: last.data } : begun;
  } finally {
    await file.close();
  }
}

/** There is one whole line at least. */
async function lastLine(file: FileHandle): Promise<string> {
  const { size } = await file.stat();
  const length = Math.min(size, 2 * lineBytesMax);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
  const text = buffer.toString('latin1', 0, bytesRead);
  const end = text.lastIndexOf('\n');
  return text.slice(text.lastIndexOf('\n', end - 1) + 1, end);
}

function entryOf(path: string, line: string) {
  const parsed = parseLine(line);
  if (parsed.kind === 'entry') return parsed.entry;
  throw broken(path, parsed.message);
}

function broken(path: string, what: string): RunnerError {
  return new RunnerError('journal_broken', `a line of ${path} ${what}; run "glovebox check" on it`);
}
