import { decodePath, encodePath } from '../bytes-path.ts';
import type { Digest } from '../digest.ts';
import { u64 } from './arrivals.ts';
import { broken } from './frames.ts';
import type { FileEntry, UnpackItem } from './spec.ts';
import { payloadMax } from './wire.ts';

/** What a hand says: docs/protocol.md, "The hand". */
export type HandRecord =
  | { readonly kind: 'entry'; readonly entry: FileEntry }
  | { readonly kind: 'data'; readonly bytes: Buffer }
  | { readonly kind: 'file_end' }
  /** The last record of a hand that failed. */
  | { readonly kind: 'failed'; readonly errno: number; readonly path: string }
  | { readonly kind: 'unreadable'; readonly errno: number; readonly path: string }
  /** Of a probe: a network interface, and how one attempt ended. */
  | { readonly kind: 'interface'; readonly flags: number; readonly name: string }
  | { readonly kind: 'probed'; readonly index: number; readonly errno: number; readonly answer: Buffer }
  | { readonly kind: 'end'; readonly truncated: boolean };

const headerBytes = 5;
const entryBytes = 54;
const endBytes = 17;
const interfaceNameMax = 64;
const answerMax = 512;

/**
 * Reads records strictly and incrementally: a header is judged before its payload is waited for, at most one record
 * (64 KiB) is held, and the first thing that is wrong throws `protocol_error`. Nothing may follow the last record.
 */
export class RecordParser {
  #rest = Buffer.alloc(0);
  #need = headerBytes;
  #done = false;

  /** The last record was read. */
  get done(): boolean {
    return this.#done;
  }

  push(chunk: Buffer, take: (record: HandRecord) => void): void {
    let bytes = chunk;
    if (this.#rest.length > 0) {
      // Only what completes the record at hand is copied.
      const missing = Math.min(chunk.length, this.#need - this.#rest.length);
      const head = Buffer.concat([this.#rest, chunk.subarray(0, missing)]);
      bytes = chunk.subarray(missing);
      this.#rest = empty;
      const used = this.#parse(head, take);
      if (used < head.length) {
        this.#rest = head.subarray(used);
        if (bytes.length > 0) this.push(bytes, take);
        return;
      }
    }
    const used = this.#parse(bytes, take);
    if (used < bytes.length) this.#rest = Buffer.from(bytes.subarray(used));
  }

  /** How many bytes were whole records; `#need` is then the size of what begins there, as far as it is known. */
  #parse(bytes: Buffer, take: (record: HandRecord) => void): number {
    let at = 0;
    for (;;) {
      if (at < bytes.length && this.#done) throw broken('a hand went on after its last record');
      if (at < bytes.length) judgeKind(bytes.readUInt8(at));
      this.#need = headerBytes;
      if (bytes.length - at < headerBytes) return at;
      const length = bytes.readUInt32LE(at + 1);
      judgeLength(bytes.readUInt8(at), length);
      this.#need = headerBytes + length;
      if (bytes.length - at < this.#need) return at;
      const record = parseRecord(bytes.readUInt8(at), bytes.subarray(at + headerBytes, at + this.#need));
      at += this.#need;
      this.#done = record.kind === 'end' || record.kind === 'failed';
      take(record);
    }
  }
}

const empty = Buffer.alloc(0);

/** Least and most payload of each kind. */
const kinds: ReadonlyMap<number, readonly [number, number]> = new Map([
  [code('S'), [entryBytes + 3, payloadMax]],
  [code('D'), [1, payloadMax]],
  [code('F'), [0, 0]],
  [code('E'), [4, payloadMax]],
  [code('e'), [4, payloadMax]],
  [code('I'), [5, 4 + interfaceNameMax]],
  [code('P'), [5, 5 + answerMax]],
  [code('Z'), [endBytes, endBytes]],
]);

function judgeKind(kind: number): void {
  if (!kinds.has(kind)) throw broken(`a hand's record of kind ${kind}`);
}

function judgeLength(kind: number, length: number): void {
  const [min, max] = kinds.get(kind) ?? [0, -1];
  if (length < min || length > max) throw broken(`a hand's record ${String.fromCharCode(kind)} of ${length} bytes`);
}

function parseRecord(kind: number, payload: Buffer): HandRecord {
  switch (String.fromCharCode(kind)) {
    case 'S':
      return { kind: 'entry', entry: parseEntry(payload) };
    case 'D':
      return { kind: 'data', bytes: payload };
    case 'F':
      return { kind: 'file_end' };
    case 'E':
      return { kind: 'failed', errno: payload.readUInt32LE(0), path: parsePath(payload.subarray(4)) };
    case 'e':
      return { kind: 'unreadable', errno: payload.readUInt32LE(0), path: parsePath(payload.subarray(4)) };
    case 'I':
      return { kind: 'interface', flags: payload.readUInt32LE(0), name: payload.toString('latin1', 4) };
    case 'P':
      return {
        kind: 'probed',
        index: payload.readUInt8(0),
        errno: payload.readUInt32LE(1),
        answer: Buffer.from(payload.subarray(5)),
      };
    default:
      if (payload.readUInt8(0) > 1) throw broken('a last record that is neither whole nor truncated');
      return { kind: 'end', truncated: payload[0] === 1 };
  }
}

const types: ReadonlyMap<number, FileEntry['type']> = new Map([
  [code('f'), 'file'],
  [code('d'), 'directory'],
  [code('l'), 'symlink'],
  [code('p'), 'fifo'],
  [code('s'), 'socket'],
  [code('c'), 'device'],
  [code('b'), 'device'],
]);

function parseEntry(payload: Buffer): FileEntry {
  const type = types.get(payload.readUInt8(0));
  if (type === undefined || payload.readUInt16LE(2) !== 0) throw broken('an entry of no known type');
  const [path, afterPath] = sized(payload, 52);
  const [target, afterTarget] = sized(payload, afterPath);
  const digestLength = afterTarget < payload.length ? payload.readUInt8(afterTarget) : -1;
  if ((digestLength !== 0 && digestLength !== 32) || afterTarget + 1 + digestLength !== payload.length)
    throw broken('an entry that is longer or shorter than it says');
  if ((type === 'symlink') !== target.length > 0) throw broken('an entry whose type and target disagree');
  const digest = payload.toString('hex', afterTarget + 1);
  return {
    path: parsePath(path),
    type,
    mode: payload.readUInt32LE(4) & 0o7777,
    uid: payload.readUInt32LE(8),
    gid: payload.readUInt32LE(12),
    nlink: payload.readUInt32LE(16),
    sizeBytes: u64(payload, 20),
    mtimeNs: payload.readBigInt64LE(28),
    inode: payload.readBigUInt64LE(36),
    ...(type === 'symlink' ? { target: parsePath(target) } : {}),
    ...(digest === '' ? {} : { digest: `sha256:${digest}` satisfies Digest }),
  };
}

function sized(payload: Buffer, at: number): [Buffer, number] {
  if (at + 2 > payload.length) throw broken('an entry that is shorter than it says');
  const end = at + 2 + payload.readUInt16LE(at);
  if (end > payload.length) throw broken('an entry that is shorter than it says');
  return [payload.subarray(at + 2, end), end];
}

function parsePath(bytes: Buffer): string {
  if (bytes.includes(0)) throw broken('a path with a NUL byte');
  return decodePath(bytes);
}

const itemTypes = { file: 'f', directory: 'd', symlink: 'l', remove: 'x' } as const;

/** The 'S' of something to unpack. */
export function encodeItem(item: UnpackItem, sizeBytes: number): Buffer {
  const path = encodePath(item.path);
  const target = encodePath(item.target ?? '');
  const payload = Buffer.alloc(entryBytes + path.length + 2 + target.length + 1);
  payload[0] = code(itemTypes[item.type]);
  payload[1] = item.owner === 'root' ? 0 : 1;
  payload.writeUInt32LE(item.mode & 0o7777, 4);
  payload.writeBigUInt64LE(BigInt(sizeBytes), 20);
  payload.writeUInt16LE(path.length, 52);
  path.copy(payload, entryBytes);
  payload.writeUInt16LE(target.length, entryBytes + path.length);
  target.copy(payload, entryBytes + path.length + 2);
  return encodeRecord('S', payload);
}

export function encodeRecord(kind: 'S' | 'D' | 'F' | 'Z', payload: Uint8Array): Buffer {
  const record = Buffer.allocUnsafe(headerBytes + payload.length);
  record[0] = code(kind);
  record.writeUInt32LE(payload.length, 1);
  record.set(payload, headerBytes);
  return record;
}

export function encodeLast(): Buffer {
  return encodeRecord('Z', Buffer.alloc(endBytes));
}

function code(character: string): number {
  return character.charCodeAt(0);
}
