import { parseGitLine, parseName, stripPrefixes } from './git-names.ts';
import { invalidPatch, type FilePatch, type Hunk, type HunkLine } from './patch.ts';

/**
 * Unified diffs, plain or git's: new, deleted, renamed files and modes. Line counts of hunk headers are binding, so that
 * a cut-off patch is noticed. What cannot be applied as text (binary, links, submodules, copies) is refused by name.
 */
export function parseUnified(lines: readonly string[]): FilePatch[] {
  const reader = new Reader(lines);
  const files: FilePatch[] = [];
  for (let line = reader.peek(); line !== undefined; line = reader.peek()) {
    if (line.startsWith('diff --git ')) files.push(gitFile(reader));
    else if (isFileHeader(reader)) files.push(plainFile(reader));
    else if (line.startsWith('@@ -'))
      throw invalidPatch('a hunk without a "--- / +++" header before it', reader.number);
    else if (/^(Binary files .* differ|GIT binary patch)\r?$/.test(line)) throw binary(reader);
    else reader.next(); // mail headers, commit messages, `index` lines of other tools
  }
  return files;
}

class Reader {
  readonly #lines: readonly string[];
  #at = 0;

  constructor(lines: readonly string[]) {
    this.#lines = lines;
  }

  /** Of the line that comes next, from 1. */
  get number(): number {
    return this.#at + 1;
  }

  peek(ahead = 0): string | undefined {
    return this.#lines[this.#at + ahead];
  }

  next(): string | undefined {
    return this.#lines[this.#at++];
  }
}

function isFileHeader(reader: Reader): boolean {
  return (reader.peek()?.startsWith('--- ') ?? false) && (reader.peek(1)?.startsWith('+++ ') ?? false);
}

interface GitHeader {
  oldMode?: number;
  newMode?: number;
  added?: boolean;
  deleted?: boolean;
  renameFrom?: string;
  renameTo?: string;
}

function gitFile(reader: Reader): FilePatch {
  const number = reader.number;
  const names = parseGitLine((reader.next() ?? '').slice('diff --git '.length));
  const header: GitHeader = {};
  for (let line = reader.peek(); line !== undefined; line = reader.peek()) {
    if (/^(Binary files .* differ|GIT binary patch)\r?$/.test(line)) throw binary(reader);
    if (isFileHeader(reader) || line.startsWith('diff --git ') || !gitHeader(header, line, reader.number)) break;
    reader.next();
  }
  const body = isFileHeader(reader) ? plainFile(reader) : undefined;
  const fromLine = names === undefined ? {} : stripPrefixes(names.from, names.to);
  const path = header.renameFrom ?? body?.path ?? (header.added === true ? fromLine.to : fromLine.from);
  if (path === undefined) throw invalidPatch('the file names of "diff --git" cannot be told apart', number);
  const action = header.added === true ? 'add' : header.deleted === true ? 'delete' : (body?.action ?? 'update');
  const moveTo = header.renameTo ?? body?.moveTo;
  const mode = header.newMode === undefined ? undefined : permissions(header.newMode, number);
  return { action, path, moveTo: moveTo === path ? undefined : moveTo, mode, hunks: body?.hunks ?? [] };
}

/** Takes one extended header line; false if it is none. */
function gitHeader(header: GitHeader, line: string, number: number): boolean {
  const found =
    /^(old mode|new mode|deleted file mode|new file mode|rename from|rename to|copy from|copy to|similarity index|dissimilarity index|index) (.*)$/.exec(
      line.replace(/\r$/, ''),
    );
  if (found === null) return false;
  const [, key, value = ''] = found;
  switch (key) {
    case 'old mode':
      header.oldMode = Number.parseInt(value, 8);
      return true;
    case 'new mode':
      header.newMode = Number.parseInt(value, 8);
      return true;
    case 'deleted file mode':
      permissions(Number.parseInt(value, 8), number);
      header.deleted = true;
      return true;
    case 'new file mode':
      header.newMode = Number.parseInt(value, 8);
      header.added = true;
      return true;
    case 'rename from':
      header.renameFrom = requireName(value, number);
      return true;
    case 'rename to':
      header.renameTo = requireName(value, number);
      return true;
    case 'copy from':
    case 'copy to':
      throw invalidPatch('copies are not supported; make the diff without -C', number);
    default:
      return true;
  }
}

function permissions(mode: number, number: number): number {
  if (mode === 0o100644 || mode === 0o100755 || mode === 0o100664) return mode & 0o777;
  const what = mode === 0o120000 ? 'a symbolic link' : mode === 0o160000 ? 'a submodule' : `mode ${mode.toString(8)}`;
  throw invalidPatch(`${what} cannot be patched; only regular files (100644, 100755) can`, number);
}

function requireName(value: string, number: number): string {
  const name = parseName(value);
  if (name === undefined) throw invalidPatch('the file name cannot be read', number);
  return name;
}

function plainFile(reader: Reader): FilePatch {
  const number = reader.number;
  const oldName = requireName((reader.next() ?? '').slice(4), number);
  const newName = requireName((reader.next() ?? '').slice(4), number + 1);
  const { from, to } = stripPrefixes(
    oldName === '/dev/null' ? undefined : oldName,
    newName === '/dev/null' ? undefined : newName,
  );
  const hunks: Hunk[] = [];
  while (reader.peek()?.startsWith('@@ -')) hunks.push(hunk(reader));
  const path = from ?? to;
  if (path === undefined) throw invalidPatch('both names are /dev/null', number);
  if (hunks.length === 0) throw invalidPatch(`no hunk ("@@ -1,2 +1,2 @@") follows the header of ${path}`, number);
  const action = from === undefined ? 'add' : to === undefined ? 'delete' : 'update';
  return { action, path, moveTo: action === 'update' && to !== path ? to : undefined, mode: undefined, hunks };
}

function hunk(reader: Reader): Hunk {
  const number = reader.number;
  const found = /^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@/.exec(reader.next() ?? '');
  if (found === null) throw invalidPatch('a hunk header must be "@@ -start,count +start,count @@"', number);
  let oldLeft = Number(found[2] ?? '1');
  let newLeft = Number(found[4] ?? '1');
  const lines: HunkLine[] = [];
  let oldNewline = true;
  let newNewline = true;
  while (oldLeft > 0 || newLeft > 0) {
    const line = reader.peek();
    const parsed = line === undefined ? undefined : hunkLine(line);
    if (parsed === undefined || (parsed.kind !== '+' && oldLeft === 0) || (parsed.kind !== '-' && newLeft === 0)) {
      throw invalidPatch(
        `the hunk of line ${number} says ${found[2] ?? '1'} old and ${found[4] ?? '1'} new lines, but its body differs; correct the counts, or use the "*** Begin Patch" form, which has none`,
        reader.number,
      );
    }
    reader.next();
    lines.push(parsed);
    if (parsed.kind !== '+') oldLeft--;
    if (parsed.kind !== '-') newLeft--;
    if (reader.peek()?.startsWith('\\ ')) {
      reader.next();
      if (parsed.kind !== '+') oldNewline = false;
      if (parsed.kind !== '-') newNewline = false;
    }
  }
  return { oldStart: Number(found[1]), anchors: [], lines, atEnd: false, oldNewline, newNewline };
}

function hunkLine(line: string): HunkLine | undefined {
  const kind = line[0];
  // Editors and models strip the one space of an empty context line.
  if (kind === undefined || line === '\r') return { kind: ' ', text: line };
  return kind === ' ' || kind === '-' || kind === '+' ? { kind, text: line.slice(1) } : undefined;
}

function binary(reader: Reader): ReturnType<typeof invalidPatch> {
  return invalidPatch('binary patches are not supported; write the file with base64 content', reader.number);
}
