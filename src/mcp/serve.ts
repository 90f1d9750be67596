import type { Readable, Writable } from 'node:stream';
import { createMcpHandler } from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';
import { LineChannel } from '../stdio/line-channel.ts';
import { LineTransport } from './line-transport.ts';
import type { McpRun } from './mcp-run.ts';

/** A script of 8 MB, escaped. */
const lineBytesMax = 32 * 1024 * 1024;
const bodyBytesMax = 32 * 1024 * 1024;
const subscriptionsMax = 16;

/** Serves one client on two streams until it has gone. What it still waited for is cancelled. */
export async function serveMcpLines(run: McpRun, input: Readable, output: Writable): Promise<void> {
  const transport = new LineTransport(new LineChannel(input, output, lineBytesMax), lineBytesMax);
  const ended = transport.ended;
  const served = serveStdio(() => run.server(), { transport, maxSubscriptions: subscriptionsMax });
  await ended;
  await served.close();
}

/**
 * Answers requests of streamable HTTP for one run. The caller has found out who asks and that they may, and has checked Host and
 * Origin; a client that goes away cancels what it waited for.
 */
export class McpHttp {
  readonly #handler: ReturnType<typeof createMcpHandler>;

  constructor(run: McpRun) {
    this.#handler = createMcpHandler(() => run.server(), {
      maxRequestBodySize: bodyBytesMax,
      maxSubscriptions: subscriptionsMax,
    });
  }

  fetch(request: Request): Promise<Response> {
    return this.#handler.fetch(request);
  }

  /** Ends what is being answered; may be called twice. */
  close(): Promise<void> {
    return this.#handler.close();
  }
}
