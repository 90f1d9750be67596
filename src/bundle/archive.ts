import { isMemberName, membersMax } from './members.ts';
import { problem, type Problem } from './problem.ts';
import type { ReadAhead } from './read-ahead.ts';

/**
 * The one tar (POSIX ustar) that a list of files has: names and contents, and nothing else. Promises:
 *  - the same files in the same order give the same bytes: no time, no owner, no mode of this machine;
 *  - what is read is exactly what would have been written: a header with one other bit, bytes in the padding or behind the end,
 *    a link, a directory, a name that is no member's, a name twice, a size that the file does not hold are problems, named;
 *  - memory holds a header, whatever sizes are stated.
 */
export interface FileToWrite {
  readonly path: string;
  readonly bytes: number;
  readonly chunks: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** In pieces of some size. Throws where a file has not the size that it was announced with. */
export async function* archiveOf(files: readonly FileToWrite[]): AsyncGenerator<Uint8Array, void, undefined> {
  let [pieces, bytes]: [Uint8Array[], number] = [[], 0];
  for await (const part of partsOf(files)) {
    pieces.push(part);
    bytes += part.length;
    if (bytes < pieceBytes) continue;
    yield Buffer.concat(pieces);
    [pieces, bytes] = [[], 0];
  }
  yield Buffer.concat(pieces);
}

async function* partsOf(files: readonly FileToWrite[]): AsyncGenerator<Uint8Array, void, undefined> {
  for (const { path, bytes, chunks } of files) {
    yield headerOf(path, bytes);
    let left = bytes;
    for await (const chunk of chunks()) {
      left -= chunk.length;
      if (left < 0) break;
      yield chunk;
    }
    if (left !== 0) throw new Error(`${path} has not the ${bytes} bytes that it should have`);
    if (paddingOf(bytes) > 0) yield Buffer.alloc(paddingOf(bytes));
  }
  yield Buffer.alloc(endBytes);
}

export function archiveBytes(files: readonly Pick<FileToWrite, 'bytes'>[]): number {
  return files.reduce((sum, { bytes }) => sum + blockBytes + bytes + paddingOf(bytes), endBytes);
}

/** A file of the archive: its bytes lie there from `offset` on. */
export interface ArchivedFile {
  readonly kind: 'file';
  readonly path: string;
  readonly bytes: number;
  readonly offset: number;
}

/** One file after the other, in the order in which they stand there; a problem is the last that comes. */
export async function* readArchive(
  file: ReadAhead,
): AsyncGenerator<ArchivedFile | { readonly kind: 'problem'; readonly problem: Problem }, void, undefined> {
  const size = await file.size();
  const seen = new Set<string>();
  const bad = (member: string, field: string, message: string) =>
    ({ kind: 'problem', problem: problem(member, field, message) }) as const;
  for (let at = 0; ;) {
    const header = await exactly(file, at, blockBytes);
    if (header === undefined)
      return yield bad('archive', 'end', `the file ends after ${size} bytes, within the archive`);
    if (isZero(header)) {
      const end = await exactly(file, at, endBytes);
      if (end === undefined || !isZero(end) || at + endBytes !== size)
        yield bad('archive', 'end', `two empty blocks end an archive, and nothing comes after them`);
      return;
    }
    const [path, bytes] = [nameIn(header), sizeIn(header)];
    const wrong = wrongIn(header, path, bytes);
    if (wrong !== undefined) return yield bad(path, `header.${wrong.field}`, wrong.message);
    if (seen.has(path)) return yield bad(path, 'header.name', 'the name comes twice');
    if (seen.size >= membersMax) return yield bad('archive', 'files', `there are more than ${membersMax}`);
    seen.add(path);
    const offset = at + blockBytes;
    const padding = await exactly(file, offset + bytes, paddingOf(bytes));
    if (padding === undefined || offset + bytes > size)
      return yield bad(path, 'header.size', `${bytes} bytes are stated, and the file ends before them`);
    if (!isZero(padding)) return yield bad(path, 'padding', 'there is something between this file and the next');
    yield { kind: 'file', path, bytes, offset };
    at = offset + bytes + padding.length;
  }
}

const pieceBytes = 256 * 1024;
const blockBytes = 512;
const endBytes = 2 * blockBytes;
/** What eleven octal digits hold. */
const fileBytesMax = 8 * 1024 ** 3 - 1;

/** Where the fields of a header are: POSIX.1-2017, pax, ustar interchange format. */
const fields: readonly (readonly [field: string, from: number, to: number])[] = [
  ['name', 0, 100],
  ['mode', 100, 108],
  ['uid', 108, 116],
  ['gid', 116, 124],
  ['size', 124, 136],
  ['mtime', 136, 148],
  ['checksum', 148, 156],
  ['type', 156, 157],
  ['linkname', 157, 257],
  ['magic', 257, 265],
  ['uname', 265, 297],
  ['gname', 297, 329],
  ['device', 329, 345],
  ['prefix', 345, 500],
  ['rest', 500, 512],
];

function headerOf(path: string, bytes: number): Buffer {
  if (!isMemberName(path) || bytes > fileBytesMax)
    throw new RangeError(`${path} of ${bytes} bytes is no file of a bundle`);
  const header = Buffer.alloc(blockBytes);
  header.write(path, 0, 'latin1');
  header.write(octal('644', '0', '0'), 100, 'latin1');
  header.write(`${bytes.toString(8).padStart(11, '0')}\0${'0'.repeat(11)}\0${' '.repeat(8)}0`, 124, 'latin1');
  header.write('ustar\x0000', 257, 'latin1');
  header.write(octal('0', '0'), 329, 'latin1');
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return header;
}

function octal(...digits: readonly string[]): string {
  return digits.map((text) => `${text.padStart(7, '0')}\0`).join('');
}

/** The first field that is not what it would be had this file been written here. */
function wrongIn(header: Buffer, path: string, bytes: number): { field: string; message: string } | undefined {
  if (!isMemberName(path)) return { field: 'name', message: 'a bundle has no file of this name' };
  if (!(bytes >= 0 && bytes <= fileBytesMax)) return { field: 'size', message: 'it is no size in octal digits' };
  const due = headerOf(path, bytes);
  // A checksum alone says that some field was changed; which one is said by those that differ.
  const differing = fields.filter(([, from, to]) => !header.subarray(from, to).equals(due.subarray(from, to)));
  const [field] = differing.find(([name]) => name !== 'checksum') ?? differing[0] ?? [];
  if (field === undefined) return undefined;
  if (field === 'type') return { field, message: 'it is no plain file, and a bundle has nothing else' };
  if (field === 'checksum') return { field, message: 'it does not fit the rest: name, size or checksum was changed' };
  return { field, message: 'it is not what a bundle has there' };
}

function nameIn(header: Buffer): string {
  const end = header.indexOf(0);
  return header.toString('latin1', 0, end < 0 || end > 100 ? 100 : end);
}

function sizeIn(header: Buffer): number {
  const digits = header.toString('latin1', 124, 135);
  return /^[0-7]{11}$/.test(digits) ? Number.parseInt(digits, 8) : -1;
}

function paddingOf(bytes: number): number {
  return (blockBytes - (bytes % blockBytes)) % blockBytes;
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}

/** Undefined where the file ends before. */
async function exactly(file: ReadAhead, offset: number, length: number): Promise<Buffer | undefined> {
  const found = await file.read(offset, length);
  return found.length < length ? undefined : found;
}
