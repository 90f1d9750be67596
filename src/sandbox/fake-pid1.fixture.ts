import { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import type { ContainerStream, PipesOfPid1 } from '../engine/engine.ts';
import { encodeFrame } from './frames.ts';
import { fromSupervisor, toSupervisor } from './wire.ts';

/** A supervisor that answers every HELLO, and offers pipes to whom asks. */
export class FakePid1 extends EventEmitter {
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

/** Attached to one, which may offer pipes besides. */
export function streams(openPipes?: (pipes: PipesOfPid1) => Duplex | undefined): {
  attached: FakePid1;
  stream: ContainerStream;
} {
  const attached = new FakePid1();
  const stream = { duplex: attached.duplex, stderrTail: () => 'last words' };
  return { attached, stream: openPipes === undefined ? stream : { ...stream, openPipes } };
}
