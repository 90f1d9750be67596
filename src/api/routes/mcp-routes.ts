import { z } from 'zod';
import { RunId } from '../../contract/fields.ts';
import type { WaitingCalls } from '../../mcp/waiting-calls.ts';
import type { OpenRun } from '../../service/open-run.ts';
import { version } from '../../version.ts';
import { pulledStream } from '../event-stream.ts';
import { json, route, type Asked, type Reply, type Route } from '../route.ts';
import { ServiceRun } from '../service-run.ts';
import { refuseVast } from '../vast-json.ts';

/** Of JSON, which is understood at once while everybody waits. */
const bytesMax = 4 * 1024 * 1024;
/** Of callers whose waiting calls are remembered, in one run. */
const callersMax = 64;
/** What the protocol says in headers. */
const passed = ['accept', 'mcp-protocol-version', 'mcp-method', 'mcp-name', 'mcp-session-id'] as const;

const RpcRefusal = z.object({
  jsonrpc: z.literal('2.0'),
  id: z.union([z.string(), z.int()]).nullish(),
  error: z.object({ code: z.int(), message: z.string() }),
});

/** The tools of an open run for clients of the Model Context Protocol. */
export function mcpRoutes(): readonly Route[] {
  const waitingOf = new WeakMap<OpenRun, Map<string, WaitingCalls>>();
  return [
    route({
      method: 'POST',
      path: '/v1/runs/{run}/mcp',
      operation: 'speakMcp',
      tag: 'mcp',
      summary:
        'One message of the Model Context Protocol (streamable HTTP, without sessions). What needs an approval answers that it waits; ' +
        'the same call made again hears of it.',
      scope: 'call',
      params: { run: RunId },
      headers: { 'MCP-Protocol-Version': 'As the protocol says.' },
      lasting: true,
      body: { kind: 'bytes', contentType: 'application/json', maxBytes: bytesMax },
      reply: {
        description: 'What the protocol answers.',
        also: ['application/json', 'text/event-stream'],
        refusal: RpcRefusal,
      },
      handle: async (asked) => {
        const { service, principal, params } = asked;
        refuseVast(asked.body);
        const run = new ServiceRun(service, principal, params.run);
        // Loaded for the first who asks for it: a service without such clients never needs it.
        const [{ McpRun }, { McpHttp }, { WaitingCalls: Waiting }] = await Promise.all([
          import('../../mcp/mcp-run.ts'),
          import('../../mcp/serve.ts'),
          import('../../mcp/waiting-calls.ts'),
        ]);
        const callers = waitingOf.get(service.find(principal, params.run, 'call')) ?? new Map<string, WaitingCalls>();
        waitingOf.set(service.find(principal, params.run, 'call'), callers);
        const waiting = callers.get(principal.identity) ?? new Waiting();
        if (callers.size < callersMax) callers.set(principal.identity, waiting);
        const mcp = new McpHttp(new McpRun(async () => run, { version: version(), waiting }));
        return replyOf(asked, await mcp.fetch(requestOf(asked)));
      },
    }),
  ];
}

type OfMcp = Asked<{ readonly run: string }, unknown, Buffer>;

function requestOf({ header, body, gone }: OfMcp): Request {
  const headers = new Headers({ 'content-type': 'application/json' });
  for (const name of passed) {
    const value = header(name);
    if (value !== undefined) headers.set(name, value);
  }
  return new Request('http://service/mcp', { method: 'POST', headers, body: new Uint8Array(body), signal: gone() });
}

async function replyOf({ cut, onEnd }: OfMcp, response: Response): Promise<Reply> {
  const contentType = response.headers.get('content-type') ?? '';
  if (contentType.startsWith('text/event-stream') && response.body !== null) {
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    const end = (): void => {
      reader.cancel().catch(() => undefined);
      onEnd();
    };
    const next = async (): Promise<Uint8Array | undefined> => (await reader.read()).value;
    return { kind: 'stream', contentType: 'text/event-stream', body: pulledStream(next, { cut, onEnd: end }) };
  }
  const text = await response.text();
  return json(text === '' ? null : JSON.parse(text), response.status);
}
