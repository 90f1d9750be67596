import { Duplex } from 'node:stream';
import { RunnerError } from '../../errors.ts';
import type { ContainerStream } from '../engine.ts';

/**
 * Our side of an attached connection. The engine wraps what PID 1 writes in frames of `{ u8 stream, u8[3] zero, u32 length }`;
 * these are its own, written outside the sandbox, and read strictly: anything else ends the stream. Bytes are passed on as they
 * arrive, never gathered, so that a frame's announced length costs nothing. What PID 1 writes as stdout may itself look
 * like such frames; it is never looked into.
 */
export function openStream(socket: Duplex, what: string): OpenStream {
  const duplex = new AttachedStream(socket, what);
  return { duplex, stderrTail: () => duplex.stderrTail(), finish: () => duplex.finish() };
}

export interface OpenStream extends ContainerStream {
  /** Lets go of the connection; what has arrived can still be read, then the stream ends. */
  finish(): void;
}

const headerBytes = 8;
const stdout = 1;
const stderr = 2;
/** Engines write at most 32 KiB at once. */
const frameBytesMax = 1024 * 1024;
const stderrTailBytes = 8192;

class AttachedStream extends Duplex {
  readonly #socket: Duplex;
  readonly #what: string;
  readonly #header = Buffer.alloc(headerBytes);
  #headerFilled = 0;
  #frameLeft = 0;
  #frameStream = stdout;
  #stderr = Buffer.alloc(0);
  #ended = false;

  constructor(socket: Duplex, what: string) {
    super({ readableHighWaterMark: 262_144, writableHighWaterMark: 262_144 });
    this.#socket = socket;
    this.#what = what;
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('end', () => this.#end());
    socket.on('close', () => this.#end());
    socket.on('error', (error) => {
      if (!this.#ended) this.destroy(this.#broken(`the connection broke (${error.message})`, error));
    });
    socket.pause();
  }

  stderrTail(): string {
    return this.#stderr.toString('utf8');
  }

  finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    // Whoever writes in the meantime learns of the end by reading; a "write after end" would only hide it.
    this.once('end', () => this.destroy());
    this.push(null);
    this.#socket.destroy();
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.#ended) done();
    else this.#socket.write(chunk, this.#unlessEnded(done));
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    if (this.#ended) {
      done();
      return;
    }
    this.#socket.cork();
    let left = chunks.length;
    for (const { chunk } of chunks) {
      left--;
      if (left === 0) this.#socket.write(chunk, this.#unlessEnded(done));
      else this.#socket.write(chunk);
    }
    this.#socket.uncork();
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.#socket.writable) this.#socket.end(() => done());
    else done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#ended = true;
    this.#socket.destroy();
    done(error);
  }

  /** Nobody is left to read it: that is told by the end, not by each write. */
  #unlessEnded(done: (error?: Error | null) => void): (error?: Error | null) => void {
    return (error) => done(this.#ended ? null : error);
  }

  #receive(chunk: Buffer): void {
    let at = 0;
    let more = true;
    while (at < chunk.length && !this.#ended) {
      if (this.#frameLeft === 0) {
        const taken = Math.min(headerBytes - this.#headerFilled, chunk.length - at);
        chunk.copy(this.#header, this.#headerFilled, at, at + taken);
        this.#headerFilled += taken;
        at += taken;
        if (this.#headerFilled === headerBytes && !this.#openFrame()) return;
        continue;
      }
      const taken = Math.min(this.#frameLeft, chunk.length - at);
      const part = chunk.subarray(at, at + taken);
      this.#frameLeft -= taken;
      at += taken;
      if (this.#frameStream === stdout) more = this.push(part);
      else this.#keepStderr(part);
    }
    if (!more) this.#socket.pause();
  }

  #openFrame(): boolean {
    const length = this.#header.readUInt32BE(4);
    const stream = this.#header[0];
    const padded = this.#header[1] === 0 && this.#header[2] === 0 && this.#header[3] === 0;
    if ((stream !== stdout && stream !== stderr) || !padded || length > frameBytesMax) {
      const bytes = this.#header.toString('hex');
      this.destroy(this.#broken(`${bytes} is not the header of an engine's frame`));
      return false;
    }
    this.#headerFilled = 0;
    this.#frameLeft = length;
    this.#frameStream = stream;
    return true;
  }

  #keepStderr(part: Buffer): void {
    const kept = part.length >= stderrTailBytes ? [part] : [this.#stderr, part];
    this.#stderr = Buffer.from(Buffer.concat(kept).subarray(-stderrTailBytes));
  }

  /** The container has ended, or the engine is gone: nothing more arrives and nobody reads what we write. */
  #end(): void {
    if (this.#ended) return;
    if (this.#frameLeft > 0 || this.#headerFilled > 0) {
      this.destroy(this.#broken('the connection ended in the middle of a frame'));
      return;
    }
    this.finish();
  }

  #broken(why: string, cause?: unknown): RunnerError {
    const message = `The stream of ${this.#what} is lost: ${why}. Attach again, or destroy the sandbox.`;
    return new RunnerError('sandbox_lost', message, { cause });
  }
}
