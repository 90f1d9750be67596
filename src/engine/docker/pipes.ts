import { closeSync, constants, fstatSync, openSync, readlinkSync } from 'node:fs';
import { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { PipesOfPid1 } from '../engine.ts';

/**
 * Opens two pipes that a process of this machine holds, by its number: what it reads and what it writes. Promises:
 *  - the numbers that a sandbox says are believed only as far as they name pipes of exactly this process with exactly these
 *    inodes; no path of the sandbox is ever resolved, and nothing but a pipe is read or written;
 *  - where that cannot be had (another machine or name space of processes, no right to look), `undefined`, and nothing is open.
 */
export function openPipes(pid: number, pipes: PipesOfPid1): Duplex | undefined {
  const out = openPipe(pid, pipes.out, constants.O_RDONLY);
  if (out === undefined) return undefined;
  const into = openPipe(pid, pipes.in, constants.O_WRONLY);
  if (into === undefined) {
    closeSync(out);
    return undefined;
  }
  return new PipeStream(
    new Socket({ fd: out, readable: true, writable: false }),
    new Socket({ fd: into, readable: false, writable: true }),
  );
}

function openPipe(pid: number, { fd, inode }: PipesOfPid1['in'], mode: number): number | undefined {
  const path = `/proc/${pid}/fd/${fd}`;
  try {
    if (readlinkSync(path) !== `pipe:[${inode}]`) return undefined;
    const opened = openSync(path, mode | constants.O_NONBLOCK | constants.O_NOCTTY);
    const found = fstatSync(opened);
    if (found.isFIFO() && found.ino === inode) return opened;
    closeSync(opened); // changed since it was looked at
    return undefined;
  } catch {
    return undefined;
  }
}

class PipeStream extends Duplex {
  readonly #out: Socket;
  readonly #into: Socket;
  #ended = false;

  constructor(out: Socket, into: Socket) {
    super({ readableHighWaterMark: 262_144, writableHighWaterMark: 262_144 });
    this.#out = out;
    this.#into = into;
    out.on('data', (chunk: Buffer) => {
      if (!this.#ended && !this.push(chunk)) out.pause();
    });
    for (const how of ['end', 'close', 'error'] as const) out.on(how, () => this.#end());
    into.on('error', () => this.#end());
    out.pause();
  }

  override _read(): void {
    this.#out.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#write(chunk, done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this.#write(Buffer.concat(chunks.map(({ chunk }) => chunk)), done);
  }

  /** A reader that is gone is told by the end, not by each write. */
  #write(bytes: Buffer, done: () => void): void {
    if (this.#ended) done();
    else this.#into.write(bytes, () => done());
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#into.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#ended = true;
    this.#out.destroy();
    this.#into.destroy();
    done(error);
  }

  /** The process has ended, or has let go of the pipes. What has arrived can still be read. */
  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.once('end', () => this.destroy());
    this.push(null);
    this.#into.destroy();
  }
}
