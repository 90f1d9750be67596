import pc from 'picocolors';
import { printable, printableJson } from '../journal/printable.ts';
import { plural } from '../plural.ts';

/**
 * Lines for people, on stderr where stdout belongs to a command or to a machine. Whatever came into them, from a sandbox or from a
 * service that is somebody else's: of what a terminal obeys they hold tabs, colours and ends of lines.
 */
export function say(text: string): void {
  process.stderr.write(`${harmless(text)}\n`);
}

export function print(text: string): void {
  process.stdout.write(`${harmless(text)}\n`);
}

export function printJson(value: unknown): void {
  process.stdout.write(`${printableJson(JSON.stringify(value))}\n`);
}

/** `colours`: whether ours may be among it. */
export function harmless(text: string, colours: boolean = pc.isColorSupported): string {
  const parts = text.split(colours ? tabOrColour : /(\t)/);
  return parts.map((part, at) => (at % 2 === 1 ? part : printable(part, { newlines: 'keep' }))).join('');
}

/** Colours as picocolors writes them: bold, dim, those of a terminal, and their ends. */
// oxlint-disable-next-line no-control-regex
const tabOrColour = /(\t|\u001b\[(?:1|2|22|39|3[1-6])m)/;

export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, column) => (widths[column] = Math.max(widths[column] ?? 0, cell.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Text that came out of a sandbox, indented and cut to `linesMax`; escapes cannot act on the terminal. */
export function quote(text: string, linesMax: number): string {
  const lines = printable(text.replace(/\n+$/, ''), { newlines: 'keep' }).split('\n');
  const width = Math.max(40, (process.stderr.columns ?? 120) - 6);
  const shown =
    lines.length <= linesMax
      ? lines
      : [
          ...lines.slice(0, Math.ceil(linesMax / 2)),
          `… ${plural(lines.length - linesMax, 'more line')} …`,
          ...lines.slice(-Math.floor(linesMax / 2)),
        ];
  return shown.map((line) => pc.dim('    │ ') + (line.length > width ? `${line.slice(0, width)}…` : line)).join('\n');
}

/** The same, and all of it: what somebody answers for is never cut, it goes on in the next line. */
export function quoteWhole(text: string): string {
  const width = Math.max(40, (process.stderr.columns ?? 120) - 6);
  const lines = printable(text, { newlines: 'keep' }).split('\n');
  return lines
    .flatMap((line) => line.match(new RegExp(`.{1,${width}}`, 'gsu')) ?? [''])
    .map((line) => pc.dim('    │ ') + line)
    .join('\n');
}

export function bytesText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 * 1024) return `${(bytes / 1024).toFixed(1)} KiB`;
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

export function durationText(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}
