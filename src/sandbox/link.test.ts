import { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { ContainerStream } from '../engine/engine.ts';
import type { RunnerError } from '../errors.ts';
import { CallWire, u64Bytes } from './call-wire.ts';
import { encodeFrame } from './frames.ts';
import { Link } from './link.ts';
import { fromSupervisor, toSupervisor, windowBytes } from './wire.ts';

/** The other end, by hand: what the link writes is parsed, what is given to `say` arrives. */
class FakeEnd extends EventEmitter {
  readonly sent: { type: number; call: number; payload: Buffer }[] = [];
  writableNeedDrain = false;
  destroyed = false;
  epoch = 0;
  nonce = Buffer.alloc(16);
  padding = 0;

  write(bytes: Buffer): boolean {
    if (bytes[0] === 0) {
      this.padding += bytes.length;
      return true;
    }
    for (let at = 0; at < bytes.length;) {
      const length = bytes.readUInt32LE(at + 8);
      const payload = bytes.subarray(at + 12, at + 12 + length);
      this.#take({ type: bytes.readUInt8(at + 2), call: bytes.readUInt32LE(at + 4), payload });
      at += 16 + length;
    }
    return true;
  }

  #take(frame: { type: number; call: number; payload: Buffer }): void {
    if (frame.type === toSupervisor.hello) {
      this.nonce = Buffer.from(frame.payload.subarray(0, 16));
      this.epoch = this.nonce.readUInt32LE(0);
    }
    this.sent.push(frame);
  }

  destroy(): void {
    this.destroyed = true;
  }

  say(type: number, call: number, payload: Uint8Array, flags = 0): void {
    this.emit('data', encodeFrame(this.epoch, type, call, payload, flags));
  }

  welcome(version = 1, entries: readonly Buffer[] = [], flags = 0): Buffer {
    const facts = Buffer.from(new Uint32Array([version, flags, 0, 0, entries.length]).buffer);
    return Buffer.concat([this.nonce, facts, ...entries]);
  }

  stream(): ContainerStream {
    return { duplex: this as unknown as Duplex, stderrTail: () => 'boom' };
  }
}

const options = { orphanMs: 1000, timeoutMs: 1000 };

async function opened(): Promise<{ end: FakeEnd; link: Link }> {
  const end = new FakeEnd();
  const opening = Link.open(end.stream(), options);
  end.say(fromSupervisor.welcome, 0, end.welcome());
  return { end, link: (await opening).link };
}

function listen(link: Link, number: number, shape = { stdin: true, aux: false }): { wire: CallWire; events: string[] } {
  const events: string[] = [];
  const wire = new CallWire(link, number, shape, {
    started: () => events.push('started'),
    output: (stream, bytes) => events.push(`${stream} ${bytes.toString()}`),
    exited: (exit) => events.push(`${exit.kind} ${exit.code}`),
    ended: () => events.push('ended'),
    refused: (reason, text) => events.push(`refused ${reason} ${text}`),
    tick: () => undefined,
    disconnected: (reason) => events.push(reason.code),
  });
  return { wire, events };
}

function out(offset: number, text: string, stream = 1): Buffer {
  return Buffer.concat([u64Bytes(offset), Buffer.from([stream]), Buffer.from(text)]);
}

function exit(endBytes: number, change: (payload: Buffer) => void = () => undefined): Buffer {
  const payload = Buffer.alloc(64);
  payload.writeUInt32LE(endBytes, 56);
  change(payload);
  return payload;
}

const pid = Buffer.from([7, 0, 0, 0]);

/** WELCOME with the offer of descriptors 20 and 21, inodes 7 and 8. */
function offering(end: FakeEnd): Buffer {
  return Buffer.concat([end.welcome(1, [], 1), Buffer.from(new Uint32Array([20, 21, 7, 0, 8, 0]).buffer)]);
}

describe('a link', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'clearTimeout'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  test('tells a call from its start to its end', async () => {
    const { end, link } = await opened();
    const { wire, events } = listen(link, 1);
    await wire.spawn([Buffer.from('spec')]);
    end.say(fromSupervisor.started, 1, pid);
    end.say(fromSupervisor.out, 1, out(0, 'ab'));
    end.say(fromSupervisor.out, 1, out(2, 'c', 2));
    end.say(fromSupervisor.exit, 1, exit(3));
    end.say(fromSupervisor.end, 1, u64Bytes(3));
    expect(events).toEqual(['started', 'stdout ab', 'stderr c', 'exited 0', 'ended']);
    wire.release();
    await vi.advanceTimersByTimeAsync(20);
    expect(end.sent.map((frame) => frame.type)).toEqual([toSupervisor.hello, toSupervisor.spawn, toSupervisor.release]);
    expect(link.end).toBeUndefined();
  });

  test('is lost when nobody answers HELLO', async () => {
    const end = new FakeEnd();
    const opening = Link.open(end.stream(), options);
    const failed = expect(opening).rejects.toMatchObject({ code: 'sandbox_lost' });
    await vi.advanceTimersByTimeAsync(1001);
    await failed;
    expect(end.destroyed).toBe(true);
  });

  test.each([
    ['another version', (end: FakeEnd) => end.say(fromSupervisor.welcome, 0, end.welcome(2))],
    [
      'more calls than it lists',
      (end: FakeEnd) =>
        end.say(
          fromSupervisor.welcome,
          0,
          Buffer.concat([end.welcome().subarray(0, 32), Buffer.from([255, 255, 255, 255])]),
        ),
    ],
    ['a flag that means nothing', (end: FakeEnd) => end.say(fromSupervisor.welcome, 0, end.welcome(1, [], 2))],
    ['an offer that is cut short', (end: FakeEnd) => end.say(fromSupervisor.welcome, 0, end.welcome(1, [], 1))],
    [
      'an inode beyond 2^53',
      (end: FakeEnd) =>
        end.say(fromSupervisor.welcome, 0, Buffer.concat([end.welcome(1, [], 1), Buffer.alloc(24, 255)])),
    ],
    ['pipes that nobody asked for', (end: FakeEnd) => end.say(fromSupervisor.welcome, 0, offering(end))],
    ['another nonce', (end: FakeEnd) => end.say(fromSupervisor.welcome, 0, end.welcome().fill(1, 0, 16))],
    ['a frame before WELCOME', (end: FakeEnd) => end.say(fromSupervisor.pong, 0, Buffer.alloc(8))],
    ['garbage', (end: FakeEnd) => end.emit('data', Buffer.from('sh: not found'))],
  ])('refuses an answer to HELLO with %s', async (_name, answer) => {
    const end = new FakeEnd();
    const opening = Link.open(end.stream(), options);
    answer(end);
    await expect(opening).rejects.toMatchObject({ code: 'protocol_error' });
    expect(end.destroyed).toBe(true);
  });

  test('joins a stream in its middle: padding first, old bytes thrown away', async () => {
    const end = new FakeEnd();
    const joining = Link.resume(end.stream(), options);
    expect(end.padding).toBe(65_552);
    end.emit(
      'data',
      Buffer.concat([Buffer.from('the rest of a frame'), encodeFrame(1, fromSupervisor.out, 5, out(9, 'x'))]),
    );
    const entry = Buffer.alloc(32);
    entry[0] = 5;
    entry[4] = 1;
    end.say(fromSupervisor.welcome, 0, end.welcome(1, [entry]));
    const { welcome } = await joining;
    expect(welcome.calls).toEqual([{ call: 5, state: 'running', ackedBytes: 0, endBytes: 0, stdinBytes: 0 }]);
  });

  test('asks once a second, and is lost when five questions in a row were not answered', async () => {
    const { end, link } = await opened();
    const { wire, events } = listen(link, 1);
    await wire.spawn([Buffer.from('spec')]);
    await vi.advanceTimersByTimeAsync(1000);
    end.say(fromSupervisor.pong, 0, u64Bytes(1));
    await vi.advanceTimersByTimeAsync(5000);
    expect(link.end).toBeUndefined();
    await vi.advanceTimersByTimeAsync(1000);
    expect(link.end).toMatchObject({ code: 'sandbox_lost' });
    expect(events).toEqual(['sandbox_lost']);
  });

  test('is lost at once when the stream ends, and says the last words of PID 1', async () => {
    const { end, link } = await opened();
    end.emit('end');
    expect((await link.lost).message).toContain('boom');
    end.say(fromSupervisor.pong, 0, u64Bytes(1));
    link.send(toSupervisor.ping, 0, Buffer.alloc(8));
    expect(end.sent).toHaveLength(1);
  });

  test('input stays within the window and goes on when it is acknowledged', async () => {
    const { end, link } = await opened();
    const { wire } = listen(link, 1);
    await wire.spawn([Buffer.from('spec')]);
    end.say(fromSupervisor.started, 1, pid);
    let done = false;
    const writing = wire.stdin?.write(Buffer.alloc(windowBytes + 10), true).then(() => (done = true));
    await vi.advanceTimersByTimeAsync(1);
    const sent = (): number =>
      end.sent.filter((f) => f.type === toSupervisor.stdin).reduce((n, f) => n + f.payload.length - 8, 0);
    expect(sent()).toBe(windowBytes);
    expect(done).toBe(false);
    end.say(fromSupervisor.stdinAck, 1, u64Bytes(100));
    await writing;
    expect(sent()).toBe(windowBytes + 10);
  });

  test('a process that reads no more ends a write, not the link', async () => {
    const { end, link } = await opened();
    const { wire } = listen(link, 1);
    await wire.spawn([Buffer.from('spec')]);
    end.say(fromSupervisor.started, 1, pid);
    const failed = expect(wire.stdin?.write(Buffer.alloc(windowBytes + 10))).rejects.toMatchObject({
      code: 'invalid_request',
    });
    await vi.advanceTimersByTimeAsync(1);
    end.say(fromSupervisor.stdinAck, 1, u64Bytes(100), 1);
    await failed;
    expect(link.end).toBeUndefined();
  });

  const running = (end: FakeEnd): void => end.say(fromSupervisor.started, 1, pid);
  const exited = (end: FakeEnd): void => {
    running(end);
    end.say(fromSupervisor.exit, 1, exit(0));
  };
  test.each<[string, (end: FakeEnd) => void, number, number, Buffer]>([
    ['OUT before STARTED', () => undefined, fromSupervisor.out, 1, out(0, 'x')],
    ['OUT of an unknown call', running, fromSupervisor.out, 2, out(0, 'x')],
    ['OUT that skips', running, fromSupervisor.out, 1, out(1, 'x')],
    ['OUT on no stream', running, fromSupervisor.out, 1, out(0, 'x', 4)],
    ['OUT on fd 3 that was not asked for', running, fromSupervisor.out, 1, out(0, 'x', 3)],
    ['OUT beyond 2^53', running, fromSupervisor.out, 1, out(2 ** 60, 'x')],
    ['STARTED twice', running, fromSupervisor.started, 1, pid],
    ['EXIT before STARTED', () => undefined, fromSupervisor.exit, 1, exit(0)],
    ['EXIT twice', exited, fromSupervisor.exit, 1, exit(0)],
    ['EXIT with more output than there was', running, fromSupervisor.exit, 1, exit(1)],
    ['EXIT of no kind', running, fromSupervisor.exit, 1, exit(0, (p) => (p[0] = 3))],
    ['EXIT with code 256', running, fromSupervisor.exit, 1, exit(0, (p) => p.writeInt32LE(256, 4))],
    ['END before EXIT', running, fromSupervisor.end, 1, u64Bytes(0)],
    ['END with another total', exited, fromSupervisor.end, 1, u64Bytes(1)],
    ['REFUSED after STARTED', running, fromSupervisor.refused, 1, Buffer.alloc(4)],
    ['STDIN_ACK for what was not sent', running, fromSupervisor.stdinAck, 1, u64Bytes(1)],
    ['PONG without PING', running, fromSupervisor.pong, 0, u64Bytes(1)],
    ['LISTED without LIST', running, fromSupervisor.listed, 0, Buffer.alloc(4)],
    ['a second WELCOME', running, fromSupervisor.welcome, 0, Buffer.alloc(36)],
  ])('%s ends it', async (_name, before, type, call, payload) => {
    const { end, link } = await opened();
    const { wire, events } = listen(link, 1);
    await wire.spawn([Buffer.from('spec')]);
    before(end);
    expect(link.end).toBeUndefined();
    end.say(type, call, payload);
    const lost: RunnerError = await link.lost;
    expect(lost.code).toBe('protocol_error');
    expect(events.at(-1)).toBe('protocol_error');
    expect(end.destroyed).toBe(true);
  });

  test('output past the window ends it, unless it is acknowledged', async () => {
    const { end, link } = await opened();
    const { wire } = listen(link, 1);
    await wire.spawn([Buffer.from('spec')]);
    running(end);
    const piece = 'x'.repeat(32_768);
    for (let n = 0; n < 8; n++) end.say(fromSupervisor.out, 1, out(n * piece.length, piece));
    wire.acknowledge(1);
    end.say(fromSupervisor.out, 1, out(windowBytes, 'y'));
    expect(link.end).toBeUndefined();
    end.say(fromSupervisor.out, 1, out(windowBytes + 1, 'z'));
    expect(link.end).toMatchObject({ code: 'protocol_error' });
  });

  test('one sandbox that lies does not disturb another', async () => {
    const bad = await opened();
    const good = await opened();
    const { wire, events } = listen(good.link, 1);
    await wire.spawn([Buffer.from('spec')]);
    bad.end.emit('data', Buffer.from('\xff\xff\xff\xff', 'latin1'));
    good.end.say(fromSupervisor.started, 1, pid);
    expect(bad.link.end).toMatchObject({ code: 'protocol_error' });
    expect(events).toEqual(['started']);
  });

  test('EXIT said again after a resume counts once; another one ends the link', async () => {
    const { end, link } = await opened();
    const { wire, events } = listen(link, 1);
    await wire.spawn([Buffer.from('spec')]);
    running(end);
    end.say(fromSupervisor.out, 1, out(0, 'ab'));
    end.say(fromSupervisor.exit, 1, exit(2));
    const again = await opened();
    const entry = { call: 1, state: 'ended', ackedBytes: 0, endBytes: 2, stdinBytes: 0 } as const;
    wire.resume(again.link, entry, 2);
    again.end.say(fromSupervisor.exit, 1, exit(2));
    again.end.say(fromSupervisor.end, 1, u64Bytes(2));
    expect(events).toEqual(['started', 'stdout ab', 'exited 0', 'ended']);
    const third = await opened();
    wire.resume(third.link, entry, 2);
    third.end.say(
      fromSupervisor.exit,
      1,
      exit(2, (payload) => (payload[4] = 1)),
    );
    expect(third.link.end).toMatchObject({ code: 'protocol_error' });
  });
});
