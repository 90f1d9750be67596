import type { Entry, EntryData } from '../../journal/entry.ts';
import { printable } from '../../journal/printable.ts';
import { bytesText, table } from '../terminal.ts';

/** One name, connection or request: what was asked, what was decided, how it ended. As `--json` prints it. */
export type EgressRow = EntryData<'egress.decided'> &
  Partial<Omit<EntryData<'egress.ended'>, 'result'>> & {
    readonly at: string;
    /** `open` while it is under way; absent where there is no end, as of a name and of what was denied at once. */
    readonly result?: EntryData<'egress.ended'>['result'] | 'open';
  };

/** Of a journal that may hold more than fits into memory so many are kept waiting for their end. */
const openMax = 100_000;

/** Joins what was decided with how it ended, in the order in which it was over. */
export class EgressRows {
  readonly #open = new Map<number, EgressRow>();

  /** The row that this entry makes whole, if it does. */
  push(entry: Entry): EgressRow | undefined {
    if (entry.type === 'egress.decided') {
      const row: EgressRow = { at: entry.at, ...entry.data };
      if (row.decision === 'denied' || row.kind === 'name') return row;
      if (this.#open.size < openMax) this.#open.set(row.id, { ...row, result: 'open' });
      return undefined;
    }
    if (entry.type !== 'egress.ended') return undefined;
    const decided = this.#open.get(entry.data.id);
    if (decided === undefined) return undefined;
    this.#open.delete(entry.data.id);
    return { ...decided, ...entry.data };
  }

  /** What is still under way. */
  get rest(): readonly EgressRow[] {
    return [...this.#open.values()];
  }
}

const columns = [
  'TIME',
  'CALL',
  'DECISION',
  'METHOD',
  'HOST',
  'PATH',
  'RESULT',
  'ADDRESS',
  'SENT',
  'RECEIVED',
  'MS',
  'RULE',
];
/** While lines come one by one nobody knows how wide the next will be. */
const widths = [12, 10, 8, 7, 28, 32, 12, 15, 9, 9, 6, 0];
const cellMax = 60;
const reasonMax = 160;

/** For a terminal: nothing in it can be obeyed by one. */
export function egressTable(rows: readonly EgressRow[]): string {
  return table([columns, ...rows.map((row) => cellsOf(row))]);
}

export function egressHeading(): string {
  return padded(columns);
}

/** One line of its own, below `egressHeading`. */
export function egressLine(row: EgressRow): string {
  return padded(cellsOf(row));
}

function padded(cells: readonly string[]): string {
  return cells
    .map((cell, at) => cell.padEnd(widths[at] ?? 0))
    .join('  ')
    .trimEnd();
}

function cellsOf(row: EgressRow): readonly string[] {
  const { scheme, host, port } = row;
  const isUsual = port === undefined || (scheme === 'https' && port === 443) || (scheme === 'http' && port === 80);
  const result =
    row.status === undefined ? row.result : `${row.result === 'done' ? '' : `${row.result} `}${row.status}`;
  const size = (bytes: number | undefined): string => (bytes === undefined ? '-' : bytesText(bytes));
  const why = row.reason === undefined ? '' : `: ${row.reason}`;
  return [
    row.at.slice(11, 23),
    row.callId ?? '-',
    row.decision,
    row.method ?? (row.kind === 'name' ? 'resolve' : 'connect'),
    isUsual ? host : `${host}:${port}`,
    row.path ?? '-',
    result ?? '-',
    row.address ?? '-',
    size(row.sentBytes),
    size(row.receivedBytes),
    row.ms === undefined ? '-' : `${Math.round(row.ms)}`,
    `${row.rule ?? '-'}${why}`,
  ].map((cell, at) => clipped(printable(cell), at === columns.length - 1 ? reasonMax : cellMax));
}

function clipped(text: string, max: number): string {
  return text.length <= max ? text : `${text.slice(0, max - 1)}…`;
}
