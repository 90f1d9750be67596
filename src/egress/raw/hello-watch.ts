import { ClientHelloReader, misfit } from './client-hello.ts';
import { EgressFailure } from '../failure.ts';
import type { Watch } from './splice.ts';

const changeCipherSpec = 20;
const alert = 21;
const handshake = 22;
const applicationData = 23;
const serverHello = 2;
/** RFC 8446 4.1.3: the random of a ServerHello that is a HelloRetryRequest. */
const retryRandom = Buffer.from('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c', 'hex');
/** Record header, handshake header, version: then the random. */
const randomAt = 5 + 4 + 2;

/**
 * A server may ask for a second ClientHello (HelloRetryRequest, RFC 8446 4.1.4), and some take the name in that one for the
 * connection's. So the client's records are followed until the server has said that it does not want one, or until it has
 * come and names the same host. Nobody who means well sends a handshake message before that: whoever does is cut.
 */
export class HelloWatch implements Watch {
  readonly #host: string;
  /** What the server answers: until its random is here, and then never again. */
  #answer: Buffer | undefined = Buffer.alloc(0);
  /** `wanted`: a second hello, and nothing else, may come in the clear. */
  #state: 'unanswered' | 'wanted' | 'over' = 'unanswered';
  /** The start of a record's header. */
  #head: Buffer = Buffer.alloc(0);
  /** Of the current record, still to come. */
  #skip = 0;
  readonly #second = new ClientHelloReader();

  constructor(host: string) {
    this.#host = host;
  }

  /** Before the client hears it. */
  received(chunk: Buffer): void {
    if (this.#answer === undefined) return;
    this.#answer = Buffer.concat([this.#answer, chunk.subarray(0, randomAt + retryRandom.length)]);
    const { length } = this.#answer;
    if (length < randomAt + retryRandom.length && this.#answer[0] === handshake) return;
    const random = this.#answer.subarray(randomAt, randomAt + retryRandom.length);
    this.#state = this.#answer[5] === serverHello && random.equals(retryRandom) ? 'wanted' : 'over';
    this.#answer = undefined;
  }

  /** What of it may be sent on now. Throws `denied` when a second hello names another host or none. */
  sent(chunk: Buffer): Buffer {
    const bytes = this.#head.length === 0 ? chunk : Buffer.concat([this.#head, chunk]);
    this.#head = Buffer.alloc(0);
    if (this.#state === 'over') return bytes;
    return this.#second.bytes.length > 0 ? this.#readSecond(bytes) : this.#follow(bytes);
  }

  #follow(bytes: Buffer): Buffer {
    let at = 0;
    for (;;) {
      const skipped = Math.min(this.#skip, bytes.length - at);
      this.#skip -= skipped;
      at += skipped;
      const type = bytes[at];
      if (type === undefined) return bytes;
      if (type === handshake && this.#state === 'wanted') {
        return Buffer.concat([bytes.subarray(0, at), this.#readSecond(bytes.subarray(at))]);
      }
      if (type !== changeCipherSpec && type !== applicationData && type !== alert) {
        throw new EgressFailure('denied', 'it goes on before the server has answered its ClientHello');
      }
      if (bytes.length - at < 5) {
        this.#head = Buffer.from(bytes.subarray(at));
        return bytes.subarray(0, at);
      }
      this.#skip = 5 + bytes.readUInt16BE(at + 3);
    }
  }

  #readSecond(bytes: Buffer): Buffer {
    const verdict = this.#second.push(bytes);
    if (verdict.kind === 'more') return Buffer.alloc(0);
    const reason = misfit(verdict, this.#host);
    if (reason !== undefined) throw new EgressFailure('denied', `asked again by the server, ${reason}`);
    this.#state = 'over';
    return this.#second.bytes;
  }
}
