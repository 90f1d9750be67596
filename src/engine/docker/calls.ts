import * as http from 'node:http';
import * as https from 'node:https';
import type { Duplex, Readable } from 'node:stream';
import { inspect } from 'node:util';
import Modem from 'docker-modem';
import type * as z from 'zod';
import { Deadline } from '../../deadline.ts';
import { RunnerError, messageOf } from '../../errors.ts';
import { type Endpoint, endpointName } from '../endpoint.ts';
import { tlsOptions } from '../ping.ts';

/**
 * Every request to the engine goes through here:
 *  - it has a deadline, and what it held is given back when the deadline passes;
 *  - an answer is read up to a bound, must arrive whole, and must have the shape that its schema says;
 *  - nothing is sent twice: connections are not reused, so no request dies of another one's stale connection;
 *  - a failure is a `RunnerError`, or an `EngineAnswer` for a status that the caller knows how to read.
 *
 * dockerode's modem does the dialling (dockerode itself loads gRPC for builds: 0.2 s of every command line). Its own reading of answers is not used: it never calls back when a connection is
 * reset in the middle of a body, hands a truncated JSON answer over as bytes, and writes its options as the body of attach.
 */
export class DockerCalls {
  readonly #modem: Modem;
  readonly endpoint: Endpoint;

  constructor(endpoint: Endpoint) {
    this.endpoint = endpoint;
    this.#modem = new Modem(modemOptions(endpoint));
  }

  /** Sends and parses the JSON answer. */
  async json<T>(call: Call, schema: z.ZodType<T>): Promise<T> {
    const text = await this.text(call);
    const parsed = schema.safeParse(parseJson(text));
    if (parsed.success) return parsed.data;
    throw new RunnerError(
      'engine_failed',
      `${this.what(call)}: the answer is not what an engine answers (${text.length} characters). ` +
        'Is something else listening there, or was the connection cut? `glovebox doctor` tells more.',
      { cause: parsed.error },
    );
  }

  /** Sends and returns the body as text, at most `answerBytesMax`. */
  async text(call: Call): Promise<string> {
    const bytes = await this.bytes(call, answerBytesMax);
    return bytes.toString('utf8');
  }

  async bytes(call: Call, bytesMax: number): Promise<Buffer> {
    return await this.#within(call, async (signal) => {
      const body = await this.#dial<Readable>(call, signal, {});
      return await readAll(body, bytesMax);
    });
  }

  /** The body as it comes, for what is too large to hold. It breaks off when it has not ended after the deadline once more. */
  async stream(call: Call): Promise<Readable> {
    const body = await this.#within(call, (signal) => this.#dial<Readable>(call, signal, {}));
    const deadline = Deadline.after(call.timeoutMs, this.what(call));
    deadline.signal.addEventListener('abort', () => body.destroy(deadline.signal.reason as Error), { once: true });
    body.once('close', () => deadline.clear());
    return body;
  }

  /** The raw connection after the engine has switched protocols. The deadline covers the switch, not what follows. */
  async hijack(call: Call): Promise<Duplex> {
    // An empty body with a length: anything else that is written before the switch could end up in the container's stdin.
    return await this.#within(call, (signal) =>
      this.#dial<Duplex>({ ...call, body: Buffer.alloc(0) }, signal, { hijack: true }),
    );
  }

  what(call: Call): string {
    return `${call.what} (${call.method} ${call.path.split('?')[0]} at ${endpointName(this.endpoint)})`;
  }

  async #within<T>(call: Call, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const abort = new AbortController();
    try {
      return await Deadline.run(call.timeoutMs, this.what(call), () => work(abort.signal));
    } catch (error) {
      abort.abort();
      throw error instanceof RunnerError || error instanceof EngineAnswer ? error : this.#failure(call, error);
    }
  }

  async #dial<T>(call: Call, signal: AbortSignal, extra: { hijack?: boolean }): Promise<T> {
    return await new Promise<T>((resolve, reject) => {
      const options = {
        // The modem expects a question mark that it may cut off.
        path: `${call.path}?`,
        method: call.method,
        isStream: true,
        statusCodes: extra.hijack === true ? { 101: true } : accepted,
        abortSignal: signal,
        headers: { 'Content-Type': call.contentType ?? 'application/json' },
        ...extra,
        ...(call.body === undefined && call.method !== 'POST' ? {} : { file: bodyOf(call.body) }),
      };
      this.#modem.dial(options, (error, result) => {
        if (error === null || error === undefined) resolve(result as T);
        else reject(asAnswer(error) ?? error);
      });
    });
  }

  #failure(call: Call, error: unknown): RunnerError {
    const code = (error as NodeJS.ErrnoException).code;
    const unreachable = code === 'ECONNREFUSED' || code === 'ENOENT' || code === 'EACCES' || code === 'ENOTFOUND';
    return new RunnerError(
      unreachable ? 'engine_unavailable' : 'engine_failed',
      `${this.what(call)}: ${messageOf(error)}. ${
        unreachable
          ? 'Start the engine (`make engine`) or point DOCKER_HOST at one that runs.'
          : 'The connection to the engine broke; see its log, then try again.'
      }`,
      { cause: error },
    );
  }
}

export interface Call {
  /** What is being tried, on what: "create container glovebox-…". */
  readonly what: string;
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE' | 'HEAD';
  /** With its query, escaped (`pathOf`). */
  readonly path: string;
  readonly timeoutMs: number;
  readonly body?: unknown;
  readonly contentType?: string;
}

/** The engine answered with a status that means failure. Adapter code turns it into a `RunnerError`. */
class EngineAnswer extends Error {
  override readonly name = 'EngineAnswer';
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export function isAnswer(error: unknown, ...statuses: readonly number[]): error is EngineAnswer {
  return error instanceof EngineAnswer && (statuses.length === 0 || statuses.includes(error.status));
}

/** A path with every value escaped; `undefined` values are left out. */
export function pathOf(
  parts: readonly string[],
  query: Readonly<Record<string, string | readonly string[] | undefined>> = {},
): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    for (const item of value === undefined ? [] : typeof value === 'string' ? [value] : value) search.append(key, item);
  }
  const path = `/${parts.map((part) => encodeURIComponent(part)).join('/')}`;
  return search.size === 0 ? path : `${path}?${search.toString()}`;
}

const answerBytesMax = 16 * 1024 * 1024;

const accepted = { 200: true, 201: true, 204: true, 304: true };

function bodyOf(body: unknown): Buffer | NodeJS.ReadableStream {
  if (body === undefined) return Buffer.alloc(0);
  if (Buffer.isBuffer(body)) return body;
  if (typeof body === 'object' && body !== null && 'pipe' in body) return body as NodeJS.ReadableStream;
  return Buffer.from(JSON.stringify(body));
}

function asAnswer(error: unknown): EngineAnswer | undefined {
  const { statusCode, message } = error as { statusCode?: unknown; message?: unknown };
  if (typeof statusCode !== 'number') return undefined;
  const text = String(message).replace(/^\(HTTP code \d+\) \S+ - /, '');
  return new EngineAnswer(statusCode, text.trim().slice(0, 2000));
}

async function readAll(body: Readable, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > bytesMax) throw new Error(`the answer is longer than ${bytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function parseJson(text: string): unknown {
  try {
    return text === '' ? undefined : (JSON.parse(text) as unknown);
  } catch {
    return undefined;
  }
}

/** The modem writes down all that there is of each request, for a log that nobody reads: with an agent, of every connection. */
function unseen<A extends http.Agent>(agent: A): A {
  return Object.assign(agent, { [inspect.custom]: () => 'agent' });
}

/** Everything is said explicitly, `undefined` too: what is left out, the modem takes from DOCKER_HOST. */
function modemOptions(endpoint: Endpoint): Modem.ConstructorOptions {
  const nothing = { socketPath: undefined, host: undefined, port: undefined, ca: undefined, cert: undefined };
  const rest = { key: undefined, timeout: undefined, pathPrefix: '/', headers: {} };
  if (endpoint.kind === 'unix') {
    const agent = unseen(new http.Agent({ keepAlive: false }));
    return { ...nothing, ...rest, socketPath: endpoint.path, protocol: 'http', agent };
  }
  const { host, port, tls } = endpoint;
  const address = { ...nothing, ...rest, host, port };
  if (tls === undefined) {
    return { ...address, protocol: 'http', agent: unseen(new http.Agent({ keepAlive: false })) };
  }
  const { rejectUnauthorized, ...keys } = tlsOptions(tls);
  const agent = unseen(new https.Agent({ keepAlive: false, rejectUnauthorized }));
  return { ...address, ...keys, protocol: 'https', agent };
}
