import { ToolError } from '../tool-result.ts';
import { findLines, findNearest, type SearchBudget, type Strategy } from './find-lines.ts';
import type { FilePatch, Hunk } from './patch.ts';

/** For all hunks of all files of a patch: some seconds at the very worst. */
export const comparisonsMax = 10_000_000;

export interface AppliedHunk {
  readonly line: number;
  readonly offset: number;
  readonly strategy: Strategy;
}

/**
 * Applies the hunks of one file to its content (one character per byte). Pure; all or nothing.
 *
 * Unified: the old lines must be there exactly, at the stated line or, failing that, at the nearest other place; hunks
 * keep their order. V4A: at the first place after the one before, exactly or, failing that, overlooking trailing space,
 * then all outer space, then typographic punctuation. Where lines end in CRLF throughout and the patch's do not,
 * the patch is read as if they did. Context lines stay as the file has them.
 */
export function applyHunks(
  content: string,
  patch: FilePatch,
  budget: SearchBudget = { left: comparisonsMax },
): { content: string; hunks: AppliedHunk[] } {
  const file = splitLines(content);
  const crlf = isCrlf(file) && !patch.hunks.some((hunk) => hunk.lines.some((line) => line.text.endsWith('\r')));
  const hunks = crlf ? patch.hunks.map(withCrlf) : patch.hunks;
  const out: string[] = [];
  const applied: AppliedHunk[] = [];
  let done = 0; // old lines that are in `out` already
  let finalNewline = file.finalNewline;
  for (const [index, hunk] of hunks.entries()) {
    const place = locate(file.lines, hunk, done, { path: patch.path, number: index + 1, budget });
    const strategy = crlf && place.strategy === 'exact' ? 'trailing_space' : place.strategy;
    const oldCount = hunk.lines.filter((line) => line.kind !== '+').length;
    const end = place.index + oldCount;
    checkNewline(file, hunk, { end, oldCount, path: patch.path, number: index + 1 });
    for (const line of file.lines.slice(done, place.index)) out.push(line);
    replace(file.lines, hunk, place.index, out);
    done = end;
    if (end === file.lines.length && hunk.newNewline !== undefined) finalNewline = hunk.newNewline;
    const expected = hunk.oldStart === undefined ? place.index : expectedIndex(hunk, oldCount);
    applied.push({ line: place.index + 1, offset: place.index - expected, strategy });
  }
  for (const line of file.lines.slice(done)) out.push(line);
  return { content: joinLines(out, finalNewline), hunks: applied };
}

interface Place {
  readonly path: string;
  /** Of the hunk, from 1. */
  readonly number: number;
  readonly budget: SearchBudget;
}

interface Lines {
  readonly lines: readonly string[];
  readonly finalNewline: boolean;
}

function splitLines(content: string): Lines {
  if (content === '') return { lines: [], finalNewline: true };
  const lines = content.split('\n');
  const finalNewline = lines.at(-1) === '';
  if (finalNewline) lines.pop();
  return { lines, finalNewline };
}

function joinLines(lines: readonly string[], finalNewline: boolean): string {
  return lines.length === 0 ? '' : lines.join('\n') + (finalNewline ? '\n' : '');
}

function isCrlf(file: Lines): boolean {
  const ended = file.finalNewline ? file.lines : file.lines.slice(0, -1);
  return ended.length > 0 && ended.every((line) => line.endsWith('\r'));
}

function withCrlf(hunk: Hunk): Hunk {
  const last = {
    old: hunk.lines.findLastIndex((l) => l.kind !== '+'),
    new: hunk.lines.findLastIndex((l) => l.kind !== '-'),
  };
  const bare = (index: number): boolean =>
    (hunk.oldNewline === false && index === last.old) || (hunk.newNewline === false && index === last.new);
  const lines = hunk.lines.map((line, index) => (bare(index) ? line : { ...line, text: `${line.text}\r` }));
  return { ...hunk, lines };
}

/** Index of the hunk's first old line, as the patch says it. */
function expectedIndex(hunk: Hunk, oldCount: number): number {
  const start = hunk.oldStart ?? 0;
  return oldCount === 0 ? start : Math.max(0, start - 1);
}

function locate(lines: readonly string[], hunk: Hunk, from: number, at: Place): { index: number; strategy: Strategy } {
  const wanted = hunk.lines.filter((line) => line.kind !== '+').map((line) => line.text);
  if (hunk.oldStart !== undefined) {
    const expected = expectedIndex(hunk, wanted.length);
    const index =
      wanted.length === 0
        ? Math.min(expected, lines.length)
        : findNearest(lines, wanted, from, { expected, budget: at.budget });
    if (index === undefined || index < from) throw mismatch(at, wanted, lines, hunk.oldStart);
    return { index, strategy: 'exact' };
  }
  const start = skipAnchors(lines, hunk, from, at);
  if (wanted.length === 0) {
    return { index: hunk.anchors.length === 0 ? lines.length : start, strategy: 'exact' };
  }
  const found = findLines(lines, wanted, start, { atEnd: hunk.atEnd, budget: at.budget });
  if (found === undefined) throw mismatch(at, wanted, lines, undefined);
  return found;
}

function skipAnchors(lines: readonly string[], hunk: Hunk, from: number, at: Place): number {
  let start = from;
  for (const anchor of hunk.anchors) {
    const found = findLines(lines, [anchor], start, { atEnd: false, budget: at.budget });
    if (found === undefined) {
      const where = from === 0 ? '' : ` after line ${from}`;
      throw new ToolError(
        'patch_mismatch',
        `${at.path}, hunk ${at.number}: the line ${shown(anchor)} ("@@") is not in the file${where}; nothing was changed`,
        at.path,
      );
    }
    start = found.index + 1;
  }
  return start;
}

function replace(lines: readonly string[], hunk: Hunk, index: number, out: string[]): void {
  let at = index;
  for (const line of hunk.lines) {
    if (line.kind === '+') out.push(line.text);
    else {
      const kept = lines[at++];
      if (line.kind === ' ' && kept !== undefined) out.push(kept);
    }
  }
}

function checkNewline(
  file: Lines,
  hunk: Hunk,
  at: { end: number; oldCount: number; path: string; number: number },
): void {
  if (hunk.oldNewline === undefined || at.oldCount === 0) return;
  const reachesEnd = at.end === file.lines.length;
  const has = reachesEnd ? file.finalNewline : true;
  if (has === hunk.oldNewline) return;
  const really = has ? 'has one' : 'has none';
  throw new ToolError(
    'patch_mismatch',
    `${at.path}, hunk ${at.number}: the patch expects ${has ? 'no' : 'a'} newline at the end of the file, which ${really}; nothing was changed`,
    at.path,
  );
}

function mismatch(
  at: Pick<Place, 'path' | 'number'>,
  wanted: readonly string[],
  lines: readonly string[],
  oldStart: number | undefined,
): ToolError {
  const best = longestPrefix(lines, wanted);
  const expected = wanted[best.length];
  const found = lines[best.index + best.length];
  const where = oldStart === undefined ? '' : ` (line ${oldStart})`;
  const detail =
    best.length === 0
      ? `its first line ${shown(wanted[0] ?? '')} is not in the file where it may stand`
      : `line ${best.index + best.length + 1} is ${found === undefined ? 'the end of the file' : shown(found)}, the patch expects ${shown(expected ?? '')}`;
  return new ToolError(
    'patch_mismatch',
    `${at.path}, hunk ${at.number}${where} does not match: ${detail}. Read the file again; nothing was changed`,
    at.path,
  );
}

const prefixLinesMax = 200_000;

/** Where most of the wanted lines agree before the first that does not. */
function longestPrefix(lines: readonly string[], wanted: readonly string[]): { index: number; length: number } {
  let best = { index: 0, length: 0 };
  for (let index = 0, work = 0; index < lines.length && work < prefixLinesMax; index++) {
    let length = 0;
    while (length < wanted.length && lines[index + length]?.trimEnd() === wanted[length]?.trimEnd()) length++;
    work += length + 1;
    if (length > best.length) best = { index, length };
  }
  return best;
}

function shown(latin1: string): string {
  return JSON.stringify(Buffer.from(latin1, 'latin1').toString('utf8').slice(0, 200));
}
