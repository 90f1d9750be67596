import { Readable, type Duplex } from 'node:stream';
import { LostConnection, type Answer, type Ask, type Transport } from './transport.ts';

/** A service in this process, as its HTTP routes and its sockets are reached without a network. */
export interface EmbeddedService {
  /** The very handler that serves HTTP; who asks is the local owner. */
  fetch(request: Request): Response | Promise<Response>;
  /** What a WebSocket on this path would carry. */
  connect(path: string, signal?: AbortSignal): Promise<Duplex>;
  close(): Promise<void>;
}

export class EmbeddedTransport implements Transport {
  readonly where = 'this process';
  readonly #service: EmbeddedService;

  constructor(service: EmbeddedService) {
    this.#service = service;
  }

  async send({ method, path, headers, body, signal }: Ask): Promise<Answer> {
    signal?.throwIfAborted();
    const request = new Request(`http://localhost${path}`, {
      method,
      ...(headers === undefined ? {} : { headers: { ...headers } }),
      ...bodyOf(body),
      ...(signal === undefined ? {} : { signal }),
    });
    const response = await this.#service.fetch(request);
    const stream = response.body;
    return {
      status: response.status,
      header: (name) => response.headers.get(name) ?? undefined,
      body: stream === null ? nothing() : chunksOf(stream, signal),
      discard: () => void stream?.cancel().catch(() => undefined),
    };
  }

  connect(path: string, signal?: AbortSignal): Promise<Duplex> {
    return this.#service.connect(path, signal);
  }

  close(): Promise<void> {
    return this.#service.close();
  }
}

function bodyOf(body: Ask['body']): RequestInit {
  if (body === undefined) return {};
  if (typeof body === 'string' || body instanceof Uint8Array) return { body: Buffer.from(body) };
  return { body: Readable.toWeb(Readable.from(body)) as ReadableStream<Uint8Array>, duplex: 'half' };
}

async function* nothing(): AsyncGenerator<Uint8Array, void> {}

async function* chunksOf(
  stream: ReadableStream<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void> {
  const reader = stream.getReader();
  const stop = (): void => void reader.cancel(signal?.reason).catch(() => undefined);
  signal?.addEventListener('abort', stop, { once: true });
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((cause: unknown) => {
        throw new LostConnection(`the answer was cut off: ${String(cause)}`, { cause });
      });
      signal?.throwIfAborted();
      if (done) return;
      yield value;
    }
  } finally {
    signal?.removeEventListener('abort', stop);
    reader.releaseLock();
  }
}
