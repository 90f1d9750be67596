import { describe, expect, test } from 'vitest';
import { isRunnerError } from '../errors.ts';
import { encodeItem, encodeLast, encodeRecord, RecordParser, type HandRecord } from './records.ts';

/* Replay a failure with GLOVEBOX_FUZZ_SEED=<seed>; GLOVEBOX_FUZZ_CASES changes how many cases there are. */
const seed = Number(process.env['GLOVEBOX_FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const cases = Number(process.env['GLOVEBOX_FUZZ_CASES'] ?? 50_000);

const entry = encodeItem({ path: 'a/b', type: 'file', mode: 0o644 }, 5);
const link = encodeItem({ path: 'l', type: 'symlink', mode: 0o777, target: '../x' }, 0);
const data = encodeRecord('D', Buffer.from('hello'));
const fileEnd = encodeRecord('F', new Uint8Array(0));
const whole = Buffer.concat([entry, data, fileEnd, link, error('e', 13, 'locked'), encodeLast()]);

function error(kind: 'e' | 'E', errno: number, path: string): Buffer {
  const payload = Buffer.concat([Buffer.from([errno, 0, 0, 0]), Buffer.from(path)]);
  return Buffer.concat([Buffer.from(kind), Buffer.from(new Uint32Array([payload.length]).buffer), payload]);
}

function parse(chunks: readonly Buffer[]): { records: HandRecord[]; done: boolean; error: unknown } {
  const parser = new RecordParser();
  const records: HandRecord[] = [];
  try {
    for (const chunk of chunks) parser.push(chunk, (record) => records.push(copy(record)));
    return { records, done: parser.done, error: undefined };
  } catch (error) {
    return { records, done: parser.done, error };
  }
}

/** Bytes are only good until the next chunk. */
function copy(record: HandRecord): HandRecord {
  return record.kind === 'data' ? { ...record, bytes: Buffer.from(record.bytes) } : record;
}

describe('records of a hand', () => {
  test('are read as they were written, however they are cut', () => {
    const { records, done } = parse([whole]);
    expect(done).toBe(true);
    expect(records.map((record) => record.kind)).toEqual(['entry', 'data', 'file_end', 'entry', 'unreadable', 'end']);
    expect(records[0]).toMatchObject({ entry: { path: 'a/b', type: 'file', mode: 0o644, sizeBytes: 5 } });
    expect(records[3]).toMatchObject({ entry: { path: 'l', type: 'symlink', target: '../x' } });
    expect(records[4]).toEqual({ kind: 'unreadable', errno: 13, path: 'locked' });
    for (let at = 0; at <= whole.length; at++)
      expect(parse([whole.subarray(0, at), whole.subarray(at)]).records).toEqual(records);
    expect(parse([...whole].map((byte) => Buffer.from([byte]))).records).toEqual(records);
  });

  test.each([
    ['an unknown kind', Buffer.from('Q\0\0\0\0')],
    ['a giant length', Buffer.from([0x44, 0, 0, 1, 1])],
    ['an entry too short to be one', Buffer.concat([Buffer.from('S'), Buffer.from([4, 0, 0, 0])])],
    ['data without bytes', Buffer.from('D\0\0\0\0')],
    ['an entry of no type', patched(entry, 5, 0x51)],
    ['a path longer than its entry', patched(entry, 5 + 53, 0xff)],
    ['a digest of 31 bytes', patched(entry, entry.length - 1, 31)],
    ['a file with a target', patched(link, 5, 0x66)],
    ['a path with NUL', patched(entry, 5 + 55, 0)],
    ['a size beyond 2^53', patched(entry, 5 + 27, 0xff)],
    ['something after the last record', Buffer.concat([encodeLast(), data])],
    ['something after the failure', Buffer.concat([error('E', 2, 'x'), Buffer.from('Z')])],
    ['a last record that is neither whole nor truncated', patched(encodeLast(), 5, 2)],
  ])('%s is refused', (_name, bytes) => {
    expect(parse([bytes]).error).toMatchObject({ code: 'protocol_error' });
  });

  test(`${cases} damaged streams are refused or read the same however they are cut (seed ${seed})`, () => {
    let refused = 0;
    for (let n = 0; n < cases; n++) {
      const caseSeed = (seed + n * 2_654_435_761) >>> 0;
      const random = randomFrom(caseSeed);
      const bytes = Buffer.from(whole.subarray(0, random(3) === 0 ? random(whole.length) : whole.length));
      for (let changes = random(4); changes > 0 && bytes.length > 0; changes--)
        bytes[random(bytes.length)] = random(256);
      const once = parse([bytes]);
      const chunks: Buffer[] = [];
      for (let at = 0; at < bytes.length;) {
        const end = at + 1 + random(60);
        chunks.push(bytes.subarray(at, end));
        at = end;
      }
      const cut = parse(chunks);
      const same = keyOf(cut) === keyOf(once);
      const known = once.error === undefined || isRunnerError(once.error, 'protocol_error');
      if (!same || !known)
        throw new Error(`case ${n}: replay with GLOVEBOX_FUZZ_SEED=${caseSeed} GLOVEBOX_FUZZ_CASES=1`, {
          cause: once.error,
        });
      if (once.error !== undefined) refused++;
    }
    if (cases > 1000) expect(refused).toBeGreaterThan(cases / 10);
  });
});

function keyOf(result: { records: readonly HandRecord[]; error: unknown }): string {
  const text = JSON.stringify(result.records, (_key, value: unknown) =>
    typeof value === 'bigint' ? String(value) : value,
  );
  return `${text} ${String(result.error)}`;
}

function patched(bytes: Buffer, at: number, value: number): Buffer {
  const copied = Buffer.from(bytes);
  copied[at] = value;
  return copied;
}

/** Mulberry32. */
function randomFrom(start: number): (below: number) => number {
  let state = start;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4_294_967_296) * below);
  };
}
