import { Duplex } from 'node:stream';
import { creditBytes, type Peer } from './gateway-records.ts';

/** What a connection asks of the gateway that carries it. */
export interface InnerPort {
  /** It has read so far that only `heldBytes` wait to be read. */
  consumed(heldBytes: number): void;
  /** Calls back once all of it is on its way. One at a time. */
  send(chunks: readonly Uint8Array[], done: () => void): void;
  /** No more will be sent. */
  finish(): void;
  /** Nobody reads or writes any more. */
  leave(failed: boolean): void;
}

/**
 * One TCP connection with a program inside a sandbox, half-open as TCP has it: its end is the end of what the program sends,
 * `end()` the end of what it is sent, and each side may come first. `destroy(error)`, or `destroy()` before `end()`, is a reset;
 * `destroy()` after `end()` lets what was sent arrive. A reset from inside destroys it with a `SocketError` of code ECONNRESET,
 * a lost sandbox with a `RunnerError`. An error that nobody listens for ends nothing but this connection.
 */
export class InnerConnection extends Duplex {
  readonly peer: Peer;
  /** The listener that it came to; 0 for one that was made from outside. */
  readonly listener: number;
  readonly #port: InnerPort;
  #bytesRead = 0;
  #bytesWritten = 0;

  constructor(port: InnerPort, peer: Peer, listener: number) {
    super({
      allowHalfOpen: true,
      readableHighWaterMark: creditBytes / 2,
      writableHighWaterMark: creditBytes,
      decodeStrings: true,
    });
    this.#port = port;
    this.peer = peer;
    this.listener = listener;
    this.on('error', () => undefined);
  }

  /** As `net.Socket` has them. */
  get bytesRead(): number {
    return this.#bytesRead;
  }

  get bytesWritten(): number {
    return this.#bytesWritten;
  }

  /** The program inside is told at once, by a reset; what is under way may be lost. */
  reset(): void {
    this.#port.leave(true);
    this.destroy();
  }

  override push(chunk: Buffer | null): boolean {
    this.#bytesRead += chunk?.length ?? 0;
    return super.push(chunk);
  }

  override read(size?: number): Buffer | null {
    const bytes = super.read(size) as Buffer | null;
    this.#port.consumed(this.readableLength);
    return bytes;
  }

  /** What comes is pushed; credit keeps it from being too much. */
  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#send([chunk], done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.#send(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }

  #send(chunks: readonly Buffer[], done: () => void): void {
    this.#port.send(chunks, () => {
      for (const { length } of chunks) this.#bytesWritten += length;
      done();
    });
  }

  override _final(done: () => void): void {
    this.#port.finish();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#port.leave(error !== null);
    done(error);
  }
}
