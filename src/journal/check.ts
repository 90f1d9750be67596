import { open } from 'node:fs/promises';
import type { Digest } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import { parseLine, type ParsedLine } from './chain.ts';
import { ChainCheck } from './chain-check.ts';
import { findingsMax, type Finding } from './finding.ts';
import { LineReader, type Line, type LineSource } from './lines.ts';
import { printable } from './printable.ts';
import { StoryCheck } from './story-check.ts';

/**
 * Whether a journal is what was written. Needs nothing but the file, and little memory however long it is.
 *
 *  - `closed`: every line is there, unchanged and in its place, every call has one outcome, and the run was closed;
 *  - `open`: the same, but the run was not closed: it still runs, its runner died, or whole lines are cut off the end;
 *  - `broken`: something was changed; the findings name the lines.
 *
 * Who can write the file can also write a whole new chain. What shows that is the head: kept elsewhere, given as
 * `expectHead`.
 */
export interface Check {
  readonly verdict: 'closed' | 'open' | 'broken';
  readonly run: string | undefined;
  readonly entries: number;
  readonly calls: number;
  readonly denied: number;
  /** Hash of the last entry. */
  readonly head: Digest | undefined;
  /** Intents without an outcome so far. */
  readonly openCalls: readonly string[];
  /** Connections and requests that were let through and have no end so far. */
  readonly openEgress: readonly number[];
  readonly findings: readonly Finding[];
  /** `run.closed` is there. */
  readonly closed: boolean;
  /** Where the last whole line ends, and what follows it: for recovery. */
  readonly wholeBytes: number;
  readonly tornBytes: number;
  readonly lastAt: string | undefined;
  readonly lastMono: number;
}

export interface CheckOptions {
  readonly expectHead?: Digest;
  readonly signal?: AbortSignal;
}

export async function checkJournal(path: string, options: CheckOptions = {}): Promise<Check> {
  const file = await open(path, 'r').catch((cause: Error) => {
    throw new RunnerError('invalid_request', `cannot read the journal ${path}: ${cause.message}`, { cause });
  });
  try {
    return await checkJournalIn(file, options);
  } finally {
    await file.close();
  }
}

/** The same of a journal that is open already, or that lies within another file. */
export function checkJournalIn(source: LineSource, options: CheckOptions = {}): Promise<Check> {
  return checkLines(new LineReader(source), options);
}

/** For people: what is wrong, line by line, then the verdict. */
export function formatCheck(check: Check): readonly string[] {
  const lines = check.findings.map(({ line, kind, message }) => `line ${line}: ${kind}: ${printable(message)}`);
  if (check.findings.length >= findingsMax) lines.push(`... only the first ${findingsMax} are listed`);
  const what = `${check.entries} entries, ${check.calls} calls, ${check.denied} denied`;
  switch (check.verdict) {
    case 'broken':
      return [...lines, `BROKEN: this is not what was written (${what})`];
    case 'open':
      return [
        ...lines,
        `OPEN: whole so far, but the run was not closed, or its end is cut off (${what})`,
        ...inDoubt(check),
      ];
    case 'closed':
      return [...lines, `OK: whole and closed (${what}), head ${check.head ?? ''}`];
  }
}

function inDoubt(check: Check): readonly string[] {
  if (check.openCalls.length === 0) return [];
  const shown = check.openCalls.slice(0, 10).join(', ');
  return [`calls without an outcome: ${shown}${check.openCalls.length > 10 ? ', ...' : ''}`];
}

interface Held {
  readonly line: Line;
  readonly parsed: ParsedLine;
}

/** Each line is judged with the next one in view: only that tells a dropped line from a swapped one. */
async function checkLines(reader: LineReader, options: CheckOptions): Promise<Check> {
  const chain = new ChainCheck();
  const story = new StoryCheck();
  const judge = (held: Held, next: Held | undefined): void => {
    chain.push(held.line.number, held.parsed, next?.parsed);
    if (held.parsed.kind === 'entry') story.push(held.line.number, held.parsed.entry);
  };
  let held: Held | undefined;
  for (let line = await reader.next(); line !== undefined; line = await reader.next()) {
    options.signal?.throwIfAborted();
    const next = { line, parsed: parse(line) };
    if (held !== undefined) judge(held, next);
    held = next;
  }
  if (held !== undefined) judge(held, undefined);
  const count = held?.line.number ?? 0;
  if (reader.restBytes > 0)
    chain.add(count + 1, 'torn', `the file ends within this line, after ${reader.restBytes} bytes`);
  else if (count === 0) chain.add(1, 'empty', 'the file is empty');
  if (options.expectHead !== undefined && chain.head !== options.expectHead && chain.findings.length === 0) {
    chain.add(
      count,
      'other_head',
      `the last entry is ${chain.head ?? 'none'}, expected ${options.expectHead}: cut off or rewritten`,
    );
  }
  story.end();
  // A broken chain makes the story unreadable: what is odd about it then says nothing new.
  const findings = chain.findings.length > 0 ? chain.findings : story.findings;
  return {
    verdict: findings.length > 0 ? 'broken' : story.closed ? 'closed' : 'open',
    run: chain.run,
    entries: chain.entries,
    calls: story.calls,
    denied: story.denied,
    head: chain.head,
    openCalls: story.openCalls,
    openEgress: story.openEgress,
    findings,
    closed: story.closed,
    wholeBytes: reader.endOffset,
    tornBytes: reader.restBytes,
    lastAt: chain.last?.at,
    lastMono: chain.last?.mono ?? 0,
  };
}

function parse(line: Line): ParsedLine {
  return line.tooLong
    ? { kind: 'bad', problem: 'too_long', message: 'is longer than any entry' }
    : parseLine(line.text);
}
