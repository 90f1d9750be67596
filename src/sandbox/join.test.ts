import { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import type { ContainerStream, PipesOfPid1 } from '../engine/engine.ts';
import { encodeFrame } from './frames.ts';
import { open } from './join.ts';
import { fromSupervisor, toSupervisor } from './wire.ts';

/** A supervisor that answers every HELLO, and offers pipes to whom asks. */
class End extends EventEmitter {
  readonly heard: number[] = [];
  readonly asked: number[] = [];
  writableNeedDrain = false;
  destroyed = false;

  write(bytes: Buffer): boolean {
    const [type, flags] = [bytes.readUInt8(2), bytes.readUInt8(3)];
    this.heard.push(type);
    if (type !== toSupervisor.hello) return true;
    this.asked.push(flags);
    const nonce = bytes.subarray(12, 28);
    const facts = Buffer.from(
      new Uint32Array([1, flags, 0, 0, 0, ...(flags === 1 ? [20, 21, 7, 0, 8, 0] : [])]).buffer,
    );
    const welcome = encodeFrame(nonce.readUInt32LE(0), fromSupervisor.welcome, 0, Buffer.concat([nonce, facts]));
    queueMicrotask(() => this.emit('data', welcome));
    return true;
  }

  destroy(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    this.emit('close');
  }

  get duplex(): Duplex {
    return this as unknown as Duplex;
  }
}

const options = { orphanMs: 1000, timeoutMs: 1000, pingEveryMs: 1_000_000 };

function streams(openPipes?: (pipes: PipesOfPid1) => Duplex | undefined): { attached: End; stream: ContainerStream } {
  const attached = new End();
  const stream = { duplex: attached.duplex, stderrTail: () => 'last words' };
  return { attached, stream: openPipes === undefined ? stream : { ...stream, openPipes } };
}

test('the stream goes on in the pipes that PID 1 offers; the attached one is closed with them', async () => {
  const direct = new End();
  const opened: PipesOfPid1[] = [];
  const { attached, stream } = streams((pipes) => {
    opened.push(pipes);
    return direct.duplex;
  });
  const { link } = await open(stream, options);
  expect(opened).toEqual([{ in: { fd: 20, inode: 7 }, out: { fd: 21, inode: 8 } }]);
  expect([attached.asked, direct.asked]).toEqual([[1], [0]]);
  link.shutdown();
  expect([attached.heard.includes(toSupervisor.shutdown), direct.heard.includes(toSupervisor.shutdown)]).toEqual([
    false,
    true,
  ]);
  attached.emit('data', Buffer.from('what comes late is dropped'));
  attached.emit('end');
  expect(link.end).toBeUndefined();
  direct.emit('end');
  expect(await link.lost).toMatchObject({ code: 'sandbox_lost', message: expect.stringContaining('last words') });
  expect(link.final).toBe(true);
  expect(attached.destroyed).toBe(true);
});

test('pipes that cannot be opened change nothing: the stream stays where it is', async () => {
  const { attached, stream } = streams(() => undefined);
  const { link } = await open(stream, options);
  link.shutdown();
  expect(attached.heard).toEqual([toSupervisor.hello, toSupervisor.shutdown]);
  attached.emit('end');
  expect((await link.lost).code).toBe('sandbox_lost');
  expect(link.final).toBe(false);
});

test('nobody asks for pipes where none could be opened', async () => {
  const { attached, stream } = streams();
  await open(stream, options);
  expect(attached.asked).toEqual([0]);
});
