import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeFrame, FrameParser, type Frame } from './frames.ts';
import { fromSupervisor, headerBytes, payloadMax, trailerBytes } from './wire.ts';

const epoch = 0x01020304;

function parse(chunks: readonly Buffer[], parser = new FrameParser({ epoch })): { frames: Frame[]; error: unknown } {
  const frames: Frame[] = [];
  try {
    for (const chunk of chunks)
      parser.push(chunk, (frame) => frames.push({ ...frame, payload: Buffer.from(frame.payload) }));
    return { frames, error: undefined };
  } catch (error) {
    return { frames, error };
  }
}

const anyFrame = fc.record({
  call: fc.integer({ min: 1, max: 0xffffffff }),
  payload: fc.uint8Array({ minLength: 10, maxLength: 300 }),
});

function encode(frames: readonly { call: number; payload: Uint8Array }[]): Buffer {
  return Buffer.concat(frames.map((frame) => encodeFrame(epoch, fromSupervisor.out, frame.call, frame.payload)));
}

function cut(bytes: Buffer, points: readonly number[]): Buffer[] {
  const at = [...new Set(points.map((point) => point % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...at, bytes.length].map((end, n) => bytes.subarray(n === 0 ? 0 : at[n - 1], end));
}

describe('frames', () => {
  test('what was encoded is parsed, however the stream is cut', () => {
    fc.assert(
      fc.property(fc.array(anyFrame, { maxLength: 8 }), fc.array(fc.nat(3000), { maxLength: 12 }), (sent, points) => {
        const { frames, error } = parse(cut(encode(sent), points));
        expect(error).toBeUndefined();
        expect(frames.map(({ call, payload }) => ({ call, payload: new Uint8Array(payload) }))).toEqual(sent);
      }),
    );
  });

  test('a cut at every single byte gives one result', () => {
    const bytes = encode([
      { call: 1, payload: Buffer.alloc(20, 1) },
      { call: 2, payload: Buffer.alloc(10, 2) },
    ]);
    for (let at = 0; at <= bytes.length; at++)
      expect(parse([bytes.subarray(0, at), bytes.subarray(at)]).frames).toHaveLength(2);
    expect(parse([...bytes].map((byte) => Buffer.from([byte]))).frames).toHaveLength(2);
  });

  test('the same garbage is refused, however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(anyFrame, { maxLength: 3 }),
        fc.nat(2000),
        fc.integer({ min: 1, max: 255 }),
        fc.array(fc.nat(3000), { maxLength: 6 }),
        (sent, where, change, points) => {
          const bytes = encode([...sent, { call: 7, payload: Buffer.alloc(10) }]);
          const at = where % bytes.length;
          bytes[at] = (bytes[at] ?? 0) ^ change;
          const whole = parse([bytes]);
          const pieces = parse(cut(bytes, points));
          expect(pieces.frames).toEqual(whole.frames);
          expect(String(pieces.error)).toBe(String(whole.error));
        },
      ),
    );
  });

  test.each([
    ['a length beyond the limit', headerOf(fromSupervisor.out, 0, 1, payloadMax + 1)],
    ['a negative length', headerOf(fromSupervisor.out, 0, 1, 0xffffffff)],
    ['a length below the least', headerOf(fromSupervisor.exit, 0, 1, 63)],
    ['an unknown type', headerOf(0x7f, 0, 1, 10)],
    ["a type of the runner's own", headerOf(0x03, 0, 1, 10)],
    ['unknown flags', headerOf(fromSupervisor.out, 1, 1, 10)],
    ['a call where there is none', headerOf(fromSupervisor.pong, 0, 1, 8)],
    ['no call where there must be one', headerOf(fromSupervisor.out, 0, 0, 10)],
    ['another magic', Buffer.from('HTTP/1.1 200', 'latin1')],
  ])('%s is refused on the header, before any payload', (_name, header) => {
    expect(parse([header]).error).toMatchObject({ code: 'protocol_error' });
  });

  test('a frame of another epoch is refused', () => {
    const other = encodeFrame(epoch + 1, fromSupervisor.out, 1, Buffer.alloc(10));
    expect(parse([other]).error).toMatchObject({ code: 'protocol_error' });
  });

  test('a long payload that never comes costs at most one frame of memory', () => {
    const before = process.memoryUsage().arrayBuffers;
    const parsers = Array.from({ length: 100 }, () => {
      const parser = new FrameParser({ epoch });
      parser.push(headerOf(fromSupervisor.out, 0, 1, payloadMax), () => undefined);
      return parser;
    });
    const each = (process.memoryUsage().arrayBuffers - before) / parsers.length;
    expect(each).toBeLessThan(2 * (headerBytes + payloadMax + trailerBytes));
  });

  test('a parser that has refused something takes nothing any more', () => {
    const parser = new FrameParser({ epoch });
    expect(parse([Buffer.from('garbage')], parser).error).toBeDefined();
    expect(parse([encode([{ call: 1, payload: Buffer.alloc(10) }])], parser)).toEqual({ frames: [], error: undefined });
  });
});

describe('joining a stream in its middle', () => {
  const nonce = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
  const joined = nonce.readUInt32LE(0);
  const welcome = encodeFrame(joined, fromSupervisor.welcome, 0, Buffer.concat([nonce, Buffer.alloc(20)]));

  test('everything before the WELCOME with our nonce is thrown away, however it is cut', () => {
    const noise = fc.uint8Array({ maxLength: 400 });
    fc.assert(
      fc.property(noise, fc.array(fc.nat(1000), { maxLength: 10 }), (before, points) => {
        const parser = new FrameParser({ epoch: joined, scan: { nonce, discardMax: 1000 } });
        const { frames, error } = parse(cut(Buffer.concat([before, welcome, welcome]), points), parser);
        expect(error).toBeUndefined();
        expect(frames).toHaveLength(2);
      }),
    );
  });

  test('a WELCOME with another nonce, or our nonce without its header, is only noise', () => {
    const other = encodeFrame(5, fromSupervisor.welcome, 0, Buffer.alloc(36, 7));
    const parser = new FrameParser({ epoch: joined, scan: { nonce, discardMax: 1000 } });
    const { frames } = parse([other, nonce, other, nonce.subarray(0, 15), welcome], parser);
    expect(frames).toHaveLength(1);
  });

  test('noise without end is refused', () => {
    const parser = new FrameParser({ epoch: joined, scan: { nonce, discardMax: 1000 } });
    expect(parse([Buffer.alloc(500), Buffer.alloc(600)], parser).error).toMatchObject({ code: 'protocol_error' });
  });
});

function headerOf(type: number, flags: number, call: number, length: number): Buffer {
  return Object.assign(encodeFrame(0, type, call, Buffer.alloc(0), flags).subarray(0, headerBytes)).fill(
    Buffer.from(new Uint32Array([length]).buffer),
    8,
    12,
  );
}
