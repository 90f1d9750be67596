import { Transform, type Readable, type TransformCallback } from 'node:stream';

/** Passes bytes on after `count` has agreed to them; what `count` throws ends the stream with that error. */
export class Counted extends Transform {
  readonly #count: (bytes: number) => void;

  constructor(count: (bytes: number) => void) {
    super();
    this.#count = count;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    try {
      this.#count(chunk.length);
    } catch (error) {
      return done(error instanceof Error ? error : new Error(String(error)));
    }
    done(null, chunk);
  }
}

/** `source` counted. The source stays whole when the copy is destroyed: its connection may have more to say. */
export function countedFrom(source: Readable, count: (bytes: number) => void): Counted {
  const counted = new Counted(count);
  counted.on('error', () => undefined);
  const fail = (): void => void counted.destroy(new Error('the client went away before its request was whole'));
  source.once('error', fail);
  source.once('close', () => {
    if (!source.readableEnded) fail();
  });
  counted.once('close', () => source.unpipe(counted));
  source.pipe(counted);
  return counted;
}
