import { connect, type Socket } from 'node:net';

/**
 * One kept connection to a unix socket, one request at a time, and no more of HTTP than Node's server speaks to it: an answer
 * with a length. What a client of its own costs is not what a row about a service is to measure.
 */
export class LeanClient {
  readonly #socket: Socket;
  #waiting: { readonly resolve: (answer: Answer) => void; readonly reject: (error: Error) => void } | undefined;
  #held: Buffer = Buffer.alloc(0);

  constructor(path: string) {
    this.#socket = connect(path);
    this.#socket.on('data', (chunk) => this.#take(chunk));
    this.#socket.on('error', (error) => this.#waiting?.reject(error));
    this.#socket.on('close', () => this.#waiting?.reject(new Error('the service has closed the connection')));
  }

  ask(method: string, path: string, body: unknown): Promise<Answer> {
    const text = JSON.stringify(body);
    const head = `${method} ${path} HTTP/1.1\r\nhost: service\r\ncontent-type: application/json\r\n`;
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#socket.write(`${head}content-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
    });
  }

  close(): void {
    this.#waiting = undefined;
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const end = this.#held.indexOf('\r\n\r\n');
    if (end < 0) return;
    const head = this.#held.toString('latin1', 0, end);
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1]);
    if (Number.isNaN(length)) return void this.#socket.destroy(new Error(`an answer without a length: ${head}`));
    const body = this.#held.subarray(end + 4);
    if (body.length < length) return;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    this.#held = Buffer.alloc(0);
    waiting?.resolve({ status: Number(head.slice(9, 12)), value: JSON.parse(body.toString('utf8')) });
  }
}

interface Answer {
  readonly status: number;
  readonly value: unknown;
}
