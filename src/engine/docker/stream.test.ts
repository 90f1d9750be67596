import { Duplex } from 'node:stream';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openStream } from './stream.ts';

describe('the attached stream', () => {
  it('gives what PID 1 wrote, however the frames are cut on the way', async () => {
    const frame = fc.record({ stream: fc.constantFrom(1, 2), bytes: fc.uint8Array({ maxLength: 40 }) });
    const law = fc.asyncProperty(
      fc.array(frame, { maxLength: 20 }),
      fc.integer({ min: 1, max: 50 }),
      async (frames, cut) => {
        const wire = Buffer.concat(frames.map(({ stream, bytes }) => framed(stream, bytes)));
        const socket = new Wire();
        const opened = openStream(socket, 'x');
        for (let at = 0; at < wire.length; at += cut) socket.push(wire.subarray(at, at + cut));
        socket.push(null);
        expect(await all(opened.duplex)).toEqual(
          Buffer.concat(frames.filter((f) => f.stream === 1).map((f) => f.bytes)),
        );
        const stderr = Buffer.concat(frames.filter((f) => f.stream === 2).map((f) => f.bytes));
        expect(opened.stderrTail()).toBe(stderr.toString('utf8'));
      },
    );
    await fc.assert(law, { numRuns: 200 });
  });

  it.each([
    ['an unknown stream', Buffer.from([3, 0, 0, 0, 0, 0, 0, 1, 65])],
    ['stdin coming back', Buffer.from([0, 0, 0, 0, 0, 0, 0, 1, 65])],
    ['padding that is not zero', Buffer.from([1, 0, 1, 0, 0, 0, 0, 1, 65])],
    ['a length beyond any engine', Buffer.from([1, 0, 0, 0, 255, 255, 255, 255])],
    ['text where a header belongs', Buffer.from('HTTP/1.1 200 OK\r\n')],
  ])('ends at %s', async (_, bytes) => {
    const socket = new Wire();
    const opened = openStream(socket, 'x');
    socket.push(framed(1, Buffer.from('before')));
    socket.push(bytes);
    await expect(all(opened.duplex)).rejects.toMatchObject({ code: 'sandbox_lost' });
    expect(socket.destroyed).toBe(true);
  });

  it.each([
    ['header', framed(1, Buffer.from('whole')).subarray(0, 5)],
    ['frame', framed(1, Buffer.from('whole')).subarray(0, 10)],
  ])('tells an end in the middle of a %s from a real one', async (_, bytes) => {
    const socket = new Wire();
    const opened = openStream(socket, 'x');
    socket.push(bytes);
    socket.push(null);
    await expect(all(opened.duplex)).rejects.toMatchObject({ code: 'sandbox_lost' });
  });

  it('keeps the last 8 KiB of the errors of a flood of them', async () => {
    const socket = new Wire();
    const opened = openStream(socket, 'x');
    for (let n = 0; n < 100; n++) socket.push(framed(2, Buffer.alloc(32_768, 97)));
    socket.push(framed(2, Buffer.from('last words')));
    socket.push(null);
    await all(opened.duplex);
    expect(opened.stderrTail()).toHaveLength(8192);
    expect(opened.stderrTail().endsWith('last words')).toBe(true);
  });

  it('takes no more from the engine than its buffer holds while nobody reads', async () => {
    const socket = new Wire();
    const opened = openStream(socket, 'x');
    const chunk = framed(1, Buffer.alloc(65_536));
    opened.duplex.read(0);
    for (let n = 0; n < 100; n++) socket.push(chunk);
    await new Promise((resolve) => setImmediate(resolve));
    expect(opened.duplex.readableLength).toBeLessThan(400_000);
    expect(socket.readableLength).toBeGreaterThan(5_000_000);
    socket.push(null);
    expect(await all(opened.duplex)).toHaveLength(6_553_600);
  });

  it('writes on while the other side reads, and holds back when it does not', async () => {
    const socket = new Wire({ slow: true });
    const { duplex } = openStream(socket, 'x');
    const taken: Buffer[] = [];
    socket.onWrite = (bytes) => taken.push(bytes);
    let more = true;
    for (let n = 0; n < 10 && more; n++) more = duplex.write(Buffer.alloc(65_536));
    expect(more).toBe(false);
    socket.release();
    await new Promise((resolve) => duplex.once('drain', resolve));
    expect(Buffer.concat(taken).length).toBeGreaterThanOrEqual(65_536);
    duplex.destroy();
  });

  it('still hands out what has arrived when it is finished, and ends', async () => {
    const socket = new Wire();
    const opened = openStream(socket, 'x');
    socket.push(framed(1, Buffer.from('arrived')));
    opened.duplex.read(0);
    await new Promise((resolve) => setImmediate(resolve));
    opened.finish();
    opened.finish();
    opened.duplex.write('nobody reads this');
    expect((await all(opened.duplex)).toString()).toBe('arrived');
    expect(socket.destroyed).toBe(true);
  });
});

/** The engine's end of a connection, in memory. */
class Wire extends Duplex {
  onWrite: (bytes: Buffer) => void = () => undefined;
  #held: (() => void)[] = [];
  #slow: boolean;

  constructor(options: { slow?: boolean } = {}) {
    super();
    this.#slow = options.slow === true;
  }

  override _read(): void {
    // what the test pushes is all there is
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    this.onWrite(chunk);
    if (this.#slow) this.#held.push(done);
    else done();
  }

  release(): void {
    this.#slow = false;
    for (const done of this.#held.splice(0)) done();
  }
}

function framed(stream: number, bytes: Uint8Array): Buffer {
  const header = Buffer.alloc(8);
  header[0] = stream;
  header.writeUInt32BE(bytes.length, 4);
  return Buffer.concat([header, bytes]);
}

async function all(stream: Duplex): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(part as Buffer);
  return Buffer.concat(parts);
}
