import { CallId, RunId } from '../../contract/fields.ts';
import { OutputQuery, OutputView, type OutputEnd } from '../../contract/output-view.ts';
import { RunnerError } from '../../errors.ts';
import type { CallOutput } from '../../service/call-output.ts';
import { eventStream, pulledStream, type Sent } from '../event-stream.ts';
import { json, route, type Asked, type Reply, type Route } from '../route.ts';

const tag = 'calls';
const replyBytes = 65_536;
const pieceBytes = 65_536;
const streamWaitMs = 10_000;

type OfOutput = Omit<Asked<{ readonly run: string; readonly callId: string }, OutputQuery>, 'body'>;

export const outputRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/runs/{run}/calls/{callId}/output',
    operation: 'readOutput',
    tag,
    summary:
      'The output of a command by byte offset, while it runs and afterwards: as JSON (a long poll), as server-sent events ' +
      '(id: the offset that comes next, data: base64; a last event `end`), or as bare bytes.',
    scope: 'call',
    params: { run: RunId, callId: CallId },
    query: OutputQuery,
    headers: {
      Accept: 'application/json, text/event-stream or application/octet-stream.',
      'Last-Event-ID': 'Of the last event that arrived: goes on after it.',
    },
    lasting: true,
    reply: {
      description: 'What there is from this offset on.',
      schema: OutputView,
      also: ['text/event-stream', 'application/octet-stream'],
    },
    handle: async (asked) => {
      const { service, principal, params, query, header } = asked;
      const accept = header('accept') ?? '';
      const streamed = accept.includes('text/event-stream') || accept.includes('application/octet-stream');
      const waitMs = query.waitMs ?? (streamed ? streamWaitMs : 0);
      const output = await service.calls.output(principal, params.run, params.callId, { waitMs, signal: asked.gone });
      const offset = offsetOf(asked);
      if (offset > output.size(query.stream) && output.ended)
        throw new RunnerError('invalid_request', `offset ${offset} is beyond the end, ${output.size(query.stream)}`);
      if (accept.includes('text/event-stream')) return events(asked, output, offset);
      if (accept.includes('application/octet-stream')) return bytes(asked, output, offset);
      return poll(query, output, offset, waitMs);
    },
  }),
];

function offsetOf({ query, header }: OfOutput): number {
  const last = header('last-event-id');
  if (last === undefined) return query.offset ?? 0;
  const offset = Number(last);
  if (/^\d{1,15}$/.test(last)) return offset;
  throw new RunnerError('invalid_request', 'Last-Event-ID of an output is an offset');
}

async function poll(query: OutputQuery, output: CallOutput, offset: number, waitMs: number): Promise<Reply> {
  const {
    bytes: found,
    nextOffset,
    ended,
  } = await output.read(offset, query.maxBytes ?? replyBytes, query.stream, waitMs);
  const view: OutputView = {
    offset,
    nextOffset,
    ended,
    base64: found.toString('base64'),
    text: found.toString('utf8'),
  };
  return json(view);
}

function events(asked: OfOutput, output: CallOutput, from: number): Reply {
  const { stream, maxBytes = pieceBytes } = asked.query;
  let offset = from;
  let over = false;
  const next = async (waitMs: number): Promise<readonly Sent[] | null | undefined> => {
    if (over) return undefined;
    const found = await output.read(offset, maxBytes, stream, waitMs);
    offset = found.nextOffset;
    const sent: Sent[] = [];
    if (found.bytes.length > 0) sent.push({ id: `${offset}`, data: found.bytes.toString('base64') });
    if (found.ended) {
      over = true;
      const end: OutputEnd = { nextOffset: offset, exitCode: output.exitCode };
      const data = JSON.stringify(end);
      sent.push({ id: `${offset}`, event: 'end', data });
    }
    return sent.length === 0 ? null : sent;
  };
  return { kind: 'stream', contentType: 'text/event-stream', body: eventStream(next, asked) };
}

/** Ends with the command; nothing is sent while it says nothing, so a proxy may think that it is dead. */
function bytes(asked: OfOutput, output: CallOutput, from: number): Reply {
  const { stream, maxBytes = pieceBytes } = asked.query;
  let offset = from;
  let over = false;
  const next = async (): Promise<Uint8Array | undefined> => {
    while (!over && !asked.gone().aborted) {
      const found = await output.read(offset, maxBytes, stream, 15_000);
      offset = found.nextOffset;
      over = found.ended;
      if (found.bytes.length > 0) return found.bytes;
    }
    return undefined;
  };
  return { kind: 'stream', contentType: 'application/octet-stream', body: pulledStream(next, asked) };
}
