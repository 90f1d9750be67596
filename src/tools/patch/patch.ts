import { ToolError } from '../tool-result.ts';

/**
 * A patch as data. Text is held as one character per byte (`latin1`), so that files which are not UTF-8 keep their
 * bytes; a line has no LF but keeps its CR.
 */
export interface Patch {
  readonly format: 'unified' | 'v4a';
  readonly files: readonly FilePatch[];
}

export interface FilePatch {
  readonly action: 'add' | 'update' | 'delete';
  /** Relative to the workspace, or absolute as the patch says it; bytes escaped as in `bytes-path.ts`. */
  readonly path: string;
  readonly moveTo: string | undefined;
  /** Permission bits that the patch sets. */
  readonly mode: number | undefined;
  readonly hunks: readonly Hunk[];
}

export interface Hunk {
  /** First old line as the patch says, from 1; for a hunk without old lines the line after which it goes. V4A: unknown. */
  readonly oldStart: number | undefined;
  /** V4A: lines to find, one after the other, before the hunk. */
  readonly anchors: readonly string[];
  readonly lines: readonly HunkLine[];
  /** V4A `*** End of File`: the hunk ends where the file ends. */
  readonly atEnd: boolean;
  /** `\ No newline at end of file` after the last old or new line; undefined where the format cannot say. */
  readonly oldNewline: boolean | undefined;
  readonly newNewline: boolean | undefined;
}

export interface HunkLine {
  readonly kind: ' ' | '-' | '+';
  readonly text: string;
}

/** The patch itself cannot be understood. Line numbers count the patch's lines from 1. */
export function invalidPatch(message: string, line?: number): ToolError {
  return new ToolError('invalid_patch', line === undefined ? message : `line ${line} of the patch: ${message}`);
}
