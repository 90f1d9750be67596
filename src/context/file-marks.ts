import { fileMarksMax, type FileMark } from '../journal/entry.ts';

interface Bounded {
  readonly files: readonly FileMark[];
  readonly moreFiles?: number;
}

/** As many as an entry takes; the rest is counted. */
export function boundMarks(marks: readonly FileMark[]): Bounded {
  const files: FileMark[] = [];
  let bytesLeft = marksBytesMax;
  for (const mark of marks) {
    bytesLeft -= sizeOf(mark);
    if (files.length === fileMarksMax || bytesLeft < 0) break;
    if (!isTooLong(mark)) files.push(mark);
  }
  const more = marks.length - files.length;
  return { files, ...(more === 0 ? {} : { moreFiles: more }) };
}

/** The same in as many entries as it takes, but no more than `entriesMax`. */
export function* boundedMarks(marks: readonly FileMark[], entriesMax: number): Generator<Bounded> {
  let rest = marks.filter((mark) => !isTooLong(mark));
  const tooLong = marks.length - rest.length;
  if (marks.length === 0) return;
  for (let left = entriesMax; ; left--) {
    const { files } = boundMarks(rest);
    rest = rest.slice(files.length);
    const isLast = rest.length === 0 || left === 1 || files.length === 0;
    const more = rest.length + tooLong;
    yield { files, ...(isLast && more > 0 ? { moreFiles: more } : {}) };
    if (isLast) return;
  }
}

/** A line of a journal has 256 KiB, for all that an entry says. */
const marksBytesMax = 128 * 1024;
const pathMax = 4096;

/** A clipped path would be the path of something else. */
function isTooLong(mark: FileMark): boolean {
  return mark.path.length > pathMax || (mark.kind === 'moved' && mark.from.length > pathMax);
}

/** As a journal writes it: anything but ASCII takes six characters. */
function sizeOf(mark: FileMark): number {
  const text = JSON.stringify(mark);
  return text.length + 5 * text.replace(/[ -~]/g, '').length;
}
