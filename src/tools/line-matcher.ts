import { RE2JS } from 're2js';
import { ToolError } from './tool-result.ts';

/** Finds lines in a file, a bounded piece of work at a time: patterns and files both come from an agent. */
export interface LineMatcher {
  /** How many bytes to look at before others get their turn. */
  readonly stepBytes: number;
  /** Offset of the first match, or of the first line that matches, from `start` and before `end`; -1 if there is none. */
  find(file: Buffer, start: number, end: number): number;
}

export function lineMatcher(pattern: string, options: { literal: boolean; caseInsensitive: boolean }): LineMatcher {
  // Folding case needs the expression engine; without it a plain search is some fifty times as fast.
  const plain = !options.caseInsensitive && (options.literal || !/[\\^$.|?*+()[\]{}]/.test(pattern));
  if (!plain) return new ExpressionMatcher(pattern, options);
  const needle = Buffer.from(pattern, 'utf8');
  return {
    stepBytes: Number.MAX_SAFE_INTEGER,
    find: (file, start, end) => {
      const at = file.indexOf(needle, start);
      return at < end ? at : -1;
    },
  };
}

/** One step takes a tenth of a second at the very worst (measured: up to 100 ns for an instruction and a byte). */
const stepWork = 1_000_000;
const stepMostBytes = 65_536;

class ExpressionMatcher implements LineMatcher {
  readonly stepBytes: number;
  readonly #line: RE2JS;
  /** For several lines at once; undefined where that could mean something else. */
  readonly #lines: RE2JS | undefined;

  constructor(pattern: string, options: { literal: boolean; caseInsensitive: boolean }) {
    const source = options.literal ? RE2JS.quote(pattern) : pattern;
    const flags = options.caseInsensitive ? RE2JS.CASE_INSENSITIVE : 0;
    this.#line = compile(source, pattern, flags);
    const sameInLines = options.literal || !/\\[AzQ]|\(\?[^:]/.test(pattern);
    this.#lines = sameInLines ? compile(source, pattern, flags | RE2JS.MULTILINE) : undefined;
    this.stepBytes = Math.min(stepMostBytes, Math.ceil(stepWork / this.#line.programSize()));
  }

  /** A line longer than a step is searched in its first `stepBytes` only. */
  find(file: Buffer, start: number, end: number): number {
    const piece = file.subarray(start, end);
    // One pass over many lines tells most files without a match, several times as fast as line by line.
    const quick = piece.length <= 2 * this.stepBytes && !piece.includes(0x0d) ? this.#lines : undefined;
    if (quick !== undefined && !quick.test(piece.toString('utf8'))) return -1;
    for (let at = start; at < end;) {
      const newline = file.indexOf(0x0a, at);
      const next = newline === -1 ? file.length : newline;
      const last = next > at && file[next - 1] === 0x0d ? next - 1 : next;
      if (this.#line.test(file.subarray(at, Math.min(last, at + this.stepBytes)))) return at;
      at = next + 1;
    }
    return -1;
  }
}

function compile(source: string, pattern: string, flags: number): RE2JS {
  try {
    return RE2JS.compile(source, flags);
  } catch (error) {
    const why = error instanceof Error ? error.message : 'cannot be compiled';
    throw new ToolError(
      'invalid_pattern',
      `pattern ${JSON.stringify(pattern)} is not RE2 syntax (${why}); use literal for plain text`,
    );
  }
}
