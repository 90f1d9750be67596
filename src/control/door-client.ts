import { lstat } from 'node:fs/promises';
import { request, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { messageOf, RunnerError } from '../errors.ts';
import { RunState } from './controlled.ts';
import { Failure, messageBytesMax } from './protocol.ts';
import { SocketPlace } from './socket-place.ts';

const answerMs = 35_000; // a little more than the run itself allows

/** A run that another process has open on this machine, by its door. `close()` it. */
export class DoorClient {
  readonly #run: string;
  readonly #place: SocketPlace;

  private constructor(run: string, place: SocketPlace) {
    this.#run = run;
    this.#place = place;
  }

  /** Throws `run_not_open` where nobody has it open. */
  static async open(run: { readonly id: string; readonly path: string }): Promise<DoorClient> {
    const place = SocketPlace.open(run.path);
    try {
      await refuseForeign(place.path);
      const client = new DoorClient(run.id, place);
      await client.state();
      return client;
    } catch (error) {
      place.close();
      const { code = '' } = error as NodeJS.ErrnoException;
      if (!['ENOENT', 'ECONNREFUSED'].includes(code)) throw error;
      const message = `run ${run.id} is not open on this machine; glovebox log ${run.id} shows how it ended`;
      throw new RunnerError('run_not_open', message, { cause: error });
    }
  }

  state(): Promise<RunState> {
    return this.#ask('GET', '/state');
  }

  narrow(without: readonly string[]): Promise<RunState> {
    return this.#ask('POST', '/narrow', { without });
  }

  revoke(credential: string): Promise<RunState> {
    return this.#ask('POST', '/revoke', { credential });
  }

  /** Resolves when the run is closed or its process has gone; at once when `signal` is aborted. */
  async ended(signal: AbortSignal): Promise<void> {
    const asked = request({ ...this.#target(), method: 'GET', path: '/end', signal });
    await new Promise<void>((resolve) => {
      asked.on('error', () => resolve());
      asked.on('response', (response) => response.on('close', resolve).on('error', resolve).resume());
      asked.end();
    });
  }

  /** A connection to this port inside. Rejects with what the run answers. */
  connect(port: number): Promise<Duplex> {
    const path = `127.0.0.1:${port}`;
    const asked = request({ ...this.#target(), method: 'CONNECT', path, timeout: answerMs });
    return new Promise((resolve, reject) => {
      asked.on('error', reject);
      asked.on('timeout', () => asked.destroy(this.#silent(`port ${port}`)));
      asked.on('response', (response) => reject(this.#broken(`answers ${response.statusCode ?? 0} to CONNECT`)));
      asked.on('connect', (response, socket: Socket, head) => {
        socket.setTimeout(0);
        if (response.statusCode === 200) {
          if (head.length > 0) socket.unshift(head);
          resolve(socket);
        } else {
          if (head.length > 0) socket.unshift(head);
          // An answer to CONNECT is not read as a message: its body is what is left of the connection.
          textOf(socket).then((text) => reject(this.#failure(text)), reject);
        }
      });
      asked.end();
    });
  }

  async close(): Promise<void> {
    this.#place.close();
  }

  async #ask(method: string, path: string, body?: unknown): Promise<RunState> {
    const asked = request({ ...this.#target(), method, path, timeout: answerMs });
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      asked.on('error', reject).on('response', resolve);
      asked.on('timeout', () => asked.destroy(this.#silent(path)));
    });
    asked.end(body === undefined ? undefined : JSON.stringify(body));
    const response = await answered;
    const text = await textOf(response);
    if (response.statusCode !== 200) throw this.#failure(text);
    const parsed = RunState.safeParse(jsonOf(text));
    if (!parsed.success) throw this.#broken('answers with something else; is it of another version?');
    return parsed.data;
  }

  #target(): { createConnection: () => Socket } {
    return { createConnection: () => connect({ path: this.#place.path, allowHalfOpen: true }) };
  }

  #failure(text: string): RunnerError {
    const parsed = Failure.safeParse(jsonOf(text));
    if (!parsed.success) return this.#broken('answers with something else; is it of another version?');
    return new RunnerError(parsed.data.error.code, parsed.data.error.message);
  }

  #broken(what: string): RunnerError {
    return new RunnerError('internal', `the runner of ${this.#run} ${what}`);
  }

  #silent(what: string): RunnerError {
    return new RunnerError(
      'engine_timeout',
      `the runner of ${this.#run} did not answer (${what}) within ${answerMs} ms`,
    );
  }
}

/** Whoever could put a socket there would be asked instead of the run. */
async function refuseForeign(path: string): Promise<void> {
  const found = await lstat(path);
  if (found.isSocket() && found.uid === process.geteuid?.()) return;
  throw new RunnerError('data_dir_unusable', `control.sock in the run's directory is no socket of ours`);
}

async function textOf(source: AsyncIterable<Buffer>): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of source) {
    bytes += piece.length;
    if (bytes > 4 * messageBytesMax) throw new RunnerError('internal', 'the answer of a runner is longer than any is');
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    return messageOf(error);
  }
}
