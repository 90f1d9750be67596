import { archiveRefused } from './tar-entry.ts';

/** The keys that change an entry. All values are bytes. */
export interface PaxValues {
  readonly path?: Buffer;
  readonly linkpath?: Buffer;
}

/** Said of files everywhere, worth nothing here: what is written gets its own owner and times. */
const ignored =
  /^(mtime|atime|ctime|uid|gid|uname|gname|comment|hdrcharset|LIBARCHIVE\.creationtime|SCHILY\.(dev|ino|nlink))$/;

/** Records `length key=value\n`. A key that is not known could change what the entry is: refused. */
export function parsePax(bytes: Buffer, at: number): PaxValues {
  const values: { path?: Buffer; linkpath?: Buffer } = {};
  for (let from = 0; from < bytes.length;) {
    const { key, value, end } = record(bytes, from, at);
    if (key === 'path' || key === 'linkpath') values[key] = value;
    else if (key === 'size' || key.startsWith('GNU.sparse')) {
      throw archiveRefused(`sparse files and sizes in extended headers (${key}) are not taken, at byte ${at}`);
    } else if (!ignored.test(key)) {
      throw archiveRefused(`extended header ${JSON.stringify(key)} at byte ${at}; make it without extended attributes`);
    }
    from = end;
  }
  return values;
}

export function formatPax(values: Readonly<Record<string, Buffer>>): Buffer {
  const records: Buffer[] = [];
  for (const [key, value] of Object.entries(values)) {
    const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')]);
    let length = rest.length + 1;
    while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
    records.push(Buffer.from(String(length)), rest);
  }
  return Buffer.concat(records);
}

function record(bytes: Buffer, from: number, at: number): { key: string; value: Buffer; end: number } {
  const space = bytes.indexOf(0x20, from);
  const digits = space === -1 ? '' : bytes.toString('latin1', from, Math.min(space, from + 9));
  const end = from + (/^[1-9]\d{0,7}$/.test(digits) ? Number(digits) : 0);
  const equals = bytes.indexOf(0x3d, space);
  if (end <= space || end > bytes.length || bytes[end - 1] !== 0x0a || equals === -1 || equals >= end) {
    throw archiveRefused(`bad extended header at byte ${at}`);
  }
  const value = bytes.subarray(equals + 1, end - 1);
  if (value.includes(0)) throw archiveRefused(`NUL byte in the extended header at byte ${at}`);
  return { key: bytes.toString('utf8', space + 1, equals), value, end };
}
