import { Duplex } from 'node:stream';
import type { ContainerStream } from '../engine.ts';

/** One client's end of a stand-in container's standard streams. */
export class FakeStream extends Duplex implements ContainerStream {
  readonly #container: FakeStreamSource;
  #finished = false;

  constructor(container: FakeStreamSource) {
    super({ allowHalfOpen: true });
    this.#container = container;
  }

  get duplex(): Duplex {
    return this;
  }

  stderrTail(): string {
    return this.#container.stderrTail();
  }

  /** The container has ended. */
  finish(): void {
    if (this.#finished || this.destroyed) return;
    this.#finished = true;
    this.once('end', () => this.destroy());
    this.push(null);
  }

  override _read(): void {
    this.#container.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.#finished) done();
    else this.#container.write(chunk, (error) => done(this.#finished ? null : error));
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#container.leave();
    this.#container.resume(); // the others were waiting for this one
    done(error);
  }
}

interface FakeStreamSource {
  write(chunk: Buffer, done: (error?: Error | null) => void): void;
  resume(): void;
  leave(): void;
  stderrTail(): string;
}
