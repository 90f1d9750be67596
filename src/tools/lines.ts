/** Lines as `wc -l` and editors count them: each ends with LF, the last one may not. */
export interface LineSlice {
  readonly bytes: Buffer;
  /** Of the first byte in the file. */
  readonly offset: number;
  readonly firstLine: number;
  /** One less than `firstLine` where the file has no such line. */
  readonly lastLine: number;
  /** Whole lines were left out because of `maxBytes`; a single longer line is cut. */
  readonly truncated: boolean;
  /** As text, `number TAB line`. */
  numbered(): string;
}

/** `from` and `to` count from 1 and are included. */
export function sliceLines(file: Buffer, from: number, to: number | undefined, maxBytes: number): LineSlice {
  const start = offsetOfLine(file, from);
  const last = to ?? Number.MAX_SAFE_INTEGER;
  let end = start;
  let line = from;
  let truncated = false;
  while (end < file.length && line <= last) {
    const newline = file.indexOf(0x0a, end);
    const next = newline === -1 ? file.length : newline + 1;
    if (next - start > maxBytes) {
      truncated = true;
      if (line === from) {
        end = start + maxBytes;
        line++;
      }
      break;
    }
    end = next;
    line++;
  }
  const bytes = file.subarray(start, end);
  return {
    bytes,
    offset: start,
    firstLine: from,
    lastLine: line - 1,
    truncated,
    numbered: () => numberLines(bytes.toString('utf8'), from),
  };
}

function offsetOfLine(file: Buffer, line: number): number {
  let at = 0;
  for (let n = 1; n < line; n++) {
    const newline = file.indexOf(0x0a, at);
    if (newline === -1) return file.length;
    at = newline + 1;
  }
  return at;
}

function numberLines(text: string, from: number): string {
  if (text === '') return '';
  const lines = text.split('\n');
  const open = lines.at(-1) !== '';
  if (!open) lines.pop();
  return lines.map((line, index) => `${from + index}\t${line}`).join('\n') + (open ? '' : '\n');
}
