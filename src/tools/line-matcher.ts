import { RE2JS } from 're2js';
import { ToolError } from './tool-result.ts';

/** Offsets of matches in a file's bytes. Linear in the file, whatever the pattern. */
export interface LineMatcher {
  /** Offset of the next match at or after `from`, or -1. */
  next(file: Buffer, from: number): number;
}

export function lineMatcher(pattern: string, options: { literal: boolean; caseInsensitive: boolean }): LineMatcher {
  // Folding case needs the expression engine; without it a plain search is some fifty times as fast.
  const plain = !options.caseInsensitive && (options.literal || !/[\\^$.|?*+()[\]{}]/.test(pattern));
  if (plain) {
    const needle = Buffer.from(pattern, 'utf8');
    return { next: (file, from) => file.indexOf(needle, from) };
  }
  const source = options.literal ? RE2JS.quote(pattern) : pattern;
  const flags = options.caseInsensitive ? RE2JS.CASE_INSENSITIVE : 0;
  const program = compile(source, pattern, flags);
  // One pass over the whole file tells most files without a match, several times as fast as line by line.
  const sameInLines = options.literal || !/\\[AzQ]|\(\?[^:]/.test(pattern);
  const whole = sameInLines ? compile(source, pattern, flags | RE2JS.MULTILINE) : undefined;
  return {
    next: (file, from) => {
      if (from === 0 && whole !== undefined && !file.includes(0x0d) && !whole.test(file.toString('utf8'))) return -1;
      for (let start = from; start < file.length;) {
        const newline = file.indexOf(0x0a, start);
        const end = newline === -1 ? file.length : newline;
        const line = file.subarray(start, end > start && file[end - 1] === 0x0d ? end - 1 : end);
        if (program.test(line)) return start;
        start = end + 1;
      }
      return -1;
    },
  };
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
