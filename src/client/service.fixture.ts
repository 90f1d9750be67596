import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GloveboxClient } from './client.ts';
import type { Reask, ReaskOptions } from './requests.ts';

type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => void;

/** Something that answers on a unix socket, as the test wants it, and remembers what it was asked. */
export class FakeService {
  readonly asked: string[] = [];
  readonly reasks: Reask[] = [];
  readonly socketPath: string;
  handler: Handler;
  readonly #folder: string;
  readonly #server;

  private constructor(folder: string, handler: Handler) {
    this.#folder = folder;
    this.socketPath = join(folder, 'socket');
    this.handler = handler;
    this.#server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('error', () => undefined);
      response.on('error', () => undefined);
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        this.asked.push(`${request.method} ${request.url}`);
        this.handler(request, response, Buffer.concat(chunks).toString('utf8'));
      });
    });
  }

  static async start(handler: Handler): Promise<FakeService> {
    const fake = new FakeService(await mkdtemp(join(tmpdir(), 'glovebox-client-')), handler);
    await new Promise<void>((resolve) => fake.#server.listen(fake.socketPath, resolve));
    return fake;
  }

  client(options: ReaskOptions = {}): Promise<GloveboxClient> {
    const onReask = (reask: Reask): void => void this.reasks.push(reask);
    return GloveboxClient.connect({ socketPath: this.socketPath, onReask, pauseMs: 1, ...options });
  }

  /** Nobody answers any more, and what was open is cut. */
  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

export function answerJson(response: ServerResponse, value: unknown, status = 200): void {
  const type = status >= 400 ? 'application/problem+json' : 'application/json';
  response.writeHead(status, { 'content-type': type }).end(JSON.stringify(value));
}
