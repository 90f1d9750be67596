import { decodePath } from '../../bytes-path.ts';
import { invalidPatch, type FilePatch, type Hunk, type HunkLine } from './patch.ts';

/**
 * The form that agents write: `*** Begin Patch`, then `*** Add File:`, `*** Update File:` (with `*** Move to:`) and
 * `*** Delete File:` sections, `*** End Patch`. Text around it, such as a here-document, is ignored; a missing end is not,
 * as it means that something was cut off.
 */
export function parseV4a(lines: readonly string[]): FilePatch[] {
  const begin = lines.findIndex((line) => line.trim() === '*** Begin Patch');
  const end = lines.findLastIndex((line) => line.trim() === '*** End Patch');
  if (begin === -1) throw invalidPatch('"*** Begin Patch" is missing');
  if (end < begin) throw invalidPatch('"*** End Patch" is missing; was the patch cut off?', lines.length);
  const files: FilePatch[] = [];
  let at = begin + 1;
  while (at < end) {
    const line = lines[at] ?? '';
    const marker = section(line);
    if (marker === undefined) {
      if (line.trim() !== '')
        throw invalidPatch(`expected "*** Add File: ", "*** Update File: " or "*** Delete File: "`, at + 1);
      at++;
      continue;
    }
    let next = at + 1;
    while (next < end && section(lines[next] ?? '') === undefined) next++;
    files.push(file(marker, lines.slice(at + 1, next), at + 2));
    at = next;
  }
  return files;
}

interface Section {
  readonly action: FilePatch['action'];
  readonly path: string;
}

function section(line: string): Section | undefined {
  const found = /^\*\*\* (Add|Update|Delete) File: (.+)$/.exec(line.trim());
  const path = found?.[2];
  if (found === null || path === undefined) return undefined;
  const action = found[1] === 'Add' ? 'add' : found[1] === 'Update' ? 'update' : 'delete';
  return { action, path: name(path) };
}

function name(text: string): string {
  return decodePath(Buffer.from(text.trim(), 'latin1'));
}

function file(marker: Section, body: readonly string[], firstLine: number): FilePatch {
  switch (marker.action) {
    case 'add':
      return { ...marker, moveTo: undefined, mode: undefined, hunks: [addedHunk(body, firstLine)] };
    case 'delete':
      for (const [index, line] of body.entries()) {
        if (line.trim() !== '') throw invalidPatch('nothing may follow "*** Delete File: "', firstLine + index);
      }
      return { ...marker, moveTo: undefined, mode: undefined, hunks: [] };
    case 'update':
      return updatedFile(marker, body, firstLine);
  }
}

function addedHunk(body: readonly string[], firstLine: number): Hunk {
  const lines = withoutBlankEnd(body).map((line, index): HunkLine => {
    if (!line.startsWith('+')) throw invalidPatch('every line of an added file begins with "+"', firstLine + index);
    return { kind: '+', text: line.slice(1) };
  });
  return { oldStart: 0, anchors: [], lines, atEnd: true, oldNewline: undefined, newNewline: true };
}

/** Blank lines between sections belong to nobody. */
function withoutBlankEnd(body: readonly string[]): readonly string[] {
  const last = body.findLastIndex((line) => line.trim() !== '');
  return body.slice(0, last + 1);
}

function updatedFile(marker: Section, body: readonly string[], firstLine: number): FilePatch {
  const move = /^\*\*\* Move to: (.+)$/.exec((body[0] ?? '').trim());
  const moveTo = move?.[1] === undefined ? undefined : name(move[1]);
  const start = moveTo === undefined ? 0 : 1;
  const hunks = updatedHunks(withoutBlankEnd(body.slice(start)), firstLine + start);
  if (hunks.length === 0 && moveTo === undefined) {
    throw invalidPatch(`the update of ${marker.path} changes nothing`, firstLine);
  }
  return { ...marker, moveTo, mode: undefined, hunks };
}

function updatedHunks(body: readonly string[], firstLine: number): Hunk[] {
  const hunks: Hunk[] = [];
  let anchors: string[] = [];
  let lines: HunkLine[] = [];
  const close = (atEnd: boolean, number: number): void => {
    if (lines.length === 0 && (anchors.length > 0 || atEnd)) throw invalidPatch('a hunk without lines', number);
    if (lines.length > 0) {
      hunks.push({ oldStart: undefined, anchors, lines, atEnd, oldNewline: undefined, newNewline: undefined });
    }
    anchors = [];
    lines = [];
  };
  for (const [index, line] of body.entries()) {
    const number = firstLine + index;
    if (line.trimEnd() === '*** End of File') close(true, number);
    else if (line.startsWith('@@')) {
      if (lines.length > 0) close(false, number);
      const anchor = anchorOf(line);
      if (anchor !== '') anchors.push(anchor);
    } else lines.push(hunkLine(line, number));
  }
  close(false, firstLine + body.length);
  return hunks;
}

/** `@@ def f():`; a unified header, which some models write here, says only where, and that is not trusted. */
function anchorOf(line: string): string {
  if (/^@@ -\d+(,\d+)? \+\d+(,\d+)? @@/.test(line)) return line.replace(/^@@ -[\d,]+ \+[\d,]+ @@ ?/, '');
  return line.slice(2).replace(/^ /, '').replace(/ @@$/, '').trimEnd();
}

function hunkLine(line: string, number: number): HunkLine {
  const kind = line[0];
  if (kind === undefined || line === '\r') return { kind: ' ', text: line };
  if (kind === ' ' || kind === '-' || kind === '+') return { kind, text: line.slice(1) };
  throw invalidPatch('a line of a hunk begins with " ", "-" or "+"', number);
}
