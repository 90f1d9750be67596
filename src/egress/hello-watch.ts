import { ClientHelloReader, misfit } from './client-hello.ts';
import { EgressFailure } from './failure.ts';

const changeCipherSpec = 20;
const handshake = 22;
const applicationData = 23;
const clientHello = 1;

/**
 * A server may ask for a second ClientHello (HelloRetryRequest, RFC 8446 4.1.4), and some take the name in that one for the
 * connection's. This follows the client's records until no second one can come in the clear, and holds it to the same name.
 */
export class HelloWatch {
  readonly #host: string;
  readonly #earlyData: boolean;
  /** The start of a record's header, or of a record whose first byte of content is not here yet. */
  #head: Buffer = Buffer.alloc(0);
  /** Of the current record's content, still to come. */
  #skip = 0;
  #second: ClientHelloReader | undefined;
  #over = false;

  /** `first`: the reader of the hello that was let through; what came behind it in `first.bytes` is followed too. */
  constructor(first: ClientHelloReader, host: string) {
    this.#host = host;
    this.#earlyData = first.verdict.kind === 'hello' && first.verdict.earlyData;
    this.take(first.bytes.subarray(first.endOfHello));
  }

  /** What of it may be sent on now. Throws `denied` when a second hello names another host or none. */
  take(chunk: Buffer): Buffer {
    if (this.#over) return chunk;
    if (this.#second !== undefined) return this.#readSecond(this.#second, chunk);
    const bytes = this.#head.length === 0 ? chunk : Buffer.concat([this.#head, chunk]);
    this.#head = Buffer.alloc(0);
    return this.#follow(bytes);
  }

  #follow(bytes: Buffer): Buffer {
    let at = 0;
    while (at < bytes.length) {
      const skipped = Math.min(this.#skip, bytes.length - at);
      this.#skip -= skipped;
      at += skipped;
      if (at === bytes.length) break;
      if (bytes.length - at < 6) {
        this.#head = Buffer.from(bytes.subarray(at));
        return bytes.subarray(0, at);
      }
      const type = bytes[at];
      if (type === handshake && bytes[at + 5] === clientHello) {
        this.#second = new ClientHelloReader();
        const rest = this.#readSecond(this.#second, bytes.subarray(at));
        return Buffer.concat([bytes.subarray(0, at), rest]);
      }
      if (type !== changeCipherSpec && !(type === applicationData && this.#earlyData)) {
        this.#over = true;
        return bytes;
      }
      this.#skip = 5 + bytes.readUInt16BE(at + 3);
    }
    return bytes;
  }

  #readSecond(second: ClientHelloReader, chunk: Buffer): Buffer {
    const verdict = second.push(chunk);
    if (verdict.kind === 'more') return Buffer.alloc(0);
    const reason = misfit(verdict, this.#host);
    if (reason !== undefined) throw new EgressFailure('denied', `after a HelloRetryRequest, ${reason}`);
    this.#over = true;
    return second.bytes;
  }
}
