import { ToolError } from './tool-result.ts';

export interface TextEdit {
  readonly path: string;
  readonly old: string;
  readonly new: string;
  readonly replaceAll: boolean;
  readonly expectCount?: number | undefined;
}

/**
 * Pure. Everything outside of the matches stays as it is, byte by byte. In a file with CRLF line ends throughout,
 * a text written with LF is meant with CRLF, as nobody who reads such a file sees the difference.
 */
export function editText(content: string, edit: TextEdit): { content: string; lines: number[] } {
  const exact = content.includes(edit.old) || !isAllCrlf(content);
  const old = exact ? edit.old : toCrlf(edit.old);
  const replacement = exact ? edit.new : toCrlf(edit.new);
  if (old === replacement) throw new ToolError('no_match', `old and new are the same text; nothing to do`, edit.path);
  const found = occurrences(content, old, edit.path);
  const lines = lineNumbers(content, found);
  check(content, edit, lines);
  const parts: string[] = [];
  let from = 0;
  for (const at of found) {
    parts.push(content.slice(from, at), replacement);
    from = at + old.length;
  }
  parts.push(content.slice(from));
  return { content: parts.join(''), lines };
}

function check(content: string, edit: TextEdit, lines: readonly number[]): void {
  if (lines.length === 0) {
    throw new ToolError('no_match', `${edit.path}: old was not found.${closestHint(content, edit.old)}`, edit.path);
  }
  const where = `${lines.slice(0, 20).join(', ')}${lines.length > 20 ? ', …' : ''}`;
  if (edit.expectCount !== undefined && edit.expectCount !== lines.length) {
    throw new ToolError(
      'count_mismatch',
      `${edit.path}: old was found ${lines.length} times, not ${edit.expectCount} (lines ${where}); nothing was changed`,
      edit.path,
    );
  }
  if (lines.length > 1 && !edit.replaceAll && edit.expectCount === undefined) {
    throw new ToolError(
      'count_mismatch',
      `${edit.path}: old was found ${lines.length} times (lines ${where}); add surrounding lines to it, or use replaceAll`,
      edit.path,
    );
  }
}

const occurrencesMax = 100_000;

function occurrences(content: string, old: string, path: string): number[] {
  const found: number[] = [];
  for (let at = content.indexOf(old); at !== -1; at = content.indexOf(old, at + old.length)) {
    if (found.length === occurrencesMax) {
      throw new ToolError('count_mismatch', `${path}: old was found more than ${occurrencesMax} times`, path);
    }
    found.push(at);
  }
  return found;
}

function lineNumbers(content: string, offsets: readonly number[]): number[] {
  const lines: number[] = [];
  let line = 1;
  let newline = content.indexOf('\n');
  for (const offset of offsets) {
    while (newline !== -1 && newline < offset) {
      line++;
      newline = content.indexOf('\n', newline + 1);
    }
    lines.push(line);
  }
  return lines;
}

function isAllCrlf(content: string): boolean {
  let seen = false;
  for (let at = content.indexOf('\n'); at !== -1; at = content.indexOf('\n', at + 1)) {
    if (content[at - 1] !== '\r') return false;
    seen = true;
  }
  return seen;
}

function toCrlf(text: string): string {
  return text.replaceAll('\r\n', '\n').replaceAll('\n', '\r\n');
}

const hintLinesMax = 5_000;

/** The line most like the first line of what was looked for, so that a model sees what it got wrong. */
function closestHint(content: string, old: string): string {
  const wanted = old
    .split('\n')
    .map((line) => line.trim())
    .find((line) => line !== '');
  if (wanted === undefined) return ' It holds only white space.';
  const lines = content.split('\n', hintLinesMax);
  const grams = bigrams(wanted);
  let best = { index: -1, score: 0 };
  for (const [index, line] of lines.entries()) {
    const score = line.trim() === wanted ? 1 : similarity(grams, bigrams(line.trim().slice(0, 200)));
    if (score > best.score) best = { index, score };
  }
  if (best.score < 0.4) return ' Nothing like it is in the file; read it again.';
  const shown = JSON.stringify((lines[best.index] ?? '').slice(0, 200));
  const why = best.score === 1 ? ' (that line agrees but for white space; then compare the lines after it)' : '';
  return ` Closest is line ${best.index + 1}${why}: ${shown}`;
}

function bigrams(line: string): Set<string> {
  const grams = new Set<string>();
  const short = line.slice(0, 200);
  for (let at = 0; at + 1 < short.length; at++) grams.add(short.slice(at, at + 2));
  return grams;
}

/** Dice's coefficient. */
function similarity(a: Set<string>, b: Set<string>): number {
  if (a.size === 0 || b.size === 0) return 0;
  let common = 0;
  for (const gram of a) if (b.has(gram)) common++;
  return (2 * common) / (a.size + b.size);
}
