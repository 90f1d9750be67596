import { z } from 'zod';
import { CallId, queryNumber, RunId } from '../../contract/fields.ts';
import { newId } from '../../ids.ts';
import { payloadOf, payloads } from '../../contract/payload.ts';
import { ToolCall, type ToolCallInput } from '../../tools/tool-call.ts';
import { ToolResult } from '../../tools/tool-result.ts';
import { callIdPattern } from '../../ids.ts';
import { RunnerError } from '../../errors.ts';
import { json, route, type Asked, type Reply, type Route } from '../route.ts';

const tag = 'calls';
const params = { run: RunId, callId: CallId };
/** Of JSON, which is understood at once while everybody waits; what is larger comes as bytes. */
const jsonBytesMax = 4 * 1024 * 1024;
const payloadBytesMax = 96 * 1024 * 1024;

type OfCall = Asked<{ readonly run: string; readonly callId: string }, undefined, unknown>;

export const callRoutes: readonly Route[] = [
  route({
    method: 'PUT',
    path: '/v1/runs/{run}/calls/{callId}',
    operation: 'makeCall',
    tag,
    summary:
      'Makes a tool call. The same id is the same call: it never runs twice, and asking again gives the recorded answer; ' +
      'another request under it is refused (`call_id_reused`). ' +
      'Nobody who stops waiting ends it. More than 4 MiB come as bytes: by `/payload`, or the routes of files and archives.',
    scope: 'call',
    params,
    body: { kind: 'json', schema: ToolCall, checkedLater: true, maxBytes: jsonBytesMax },
    reply: { description: 'What came of it: failed commands and denials are results too.', schema: ToolResult },
    handle: async ({ service, principal, params: { run, callId }, body }) =>
      json(await service.calls.make(principal, run, callId, body)),
  }),
  route({
    method: 'PUT',
    path: '/v1/runs/{run}/calls/{callId}/payload',
    operation: 'makeCallWithPayload',
    tag,
    summary:
      'The same, with the body as the bytes of the call: what `write` writes, `upload` unpacks, `exec_write` types, and `exec` ' +
      'reads from its standard input.',
    scope: 'call',
    params,
    query: z.strictObject({ call: z.string().min(2).max(12_000).describe('The rest of the call, as JSON.') }),
    body: { kind: 'bytes', contentType: 'application/octet-stream', maxBytes: payloadBytesMax },
    reply: { description: 'As of any call.', schema: ToolResult },
    handle: async ({ service, principal, params: { run, callId }, query, body }) =>
      json(await service.calls.make(principal, run, callId, withPayload(query.call, body))),
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/calls/{callId}',
    operation: 'getCall',
    tag,
    summary: 'Of a command how it stands now, of another call its recorded answer; also after the run was closed.',
    scope: 'call',
    params,
    query: z.strictObject({
      waitMs: queryNumber(0, 60_000).optional().describe('Wait so long for the end of a command; default 0.'),
    }),
    reply: { description: 'The result so far.', schema: ToolResult },
    handle: async ({ service, principal, params: { run, callId }, query }) =>
      json(await service.calls.answer(principal, run, callId, query.waitMs ?? 0)),
  }),
  control('stdin', 'writeInput', 'Writes to the standard input of a running command.', 'exec_write'),
  route({
    method: 'POST',
    path: '/v1/runs/{run}/calls/{callId}/kill',
    operation: 'killCall',
    tag,
    summary:
      'Ends a command with its whole process tree. No tool call: it works whatever the policy offers and the budget has left, ' +
      'and of a command that has ended it changes nothing.',
    scope: 'call',
    params,
    body: { kind: 'json', schema: z.strictObject({}), optional: true, maxBytes: 1_024 },
    reply: { description: 'It is being ended, or has ended.', schema: ToolResult },
    handle: async ({ service, principal, params: { run, callId } }) =>
      json(await service.calls.cancel(principal, run, callId)),
  }),
  control('signal', 'signalCall', 'Sends a signal, such as INT for Ctrl-C.', 'exec_signal'),
  control('resize', 'resizeCall', 'Changes the size of the terminal of a call.', 'exec_resize'),
];

/** A tool call about another call, without saying its id again. */
function control(
  name: string,
  operation: string,
  summary: string,
  tool: 'exec_write' | 'exec_signal' | 'exec_resize',
): Route {
  const whole = ToolCall.options.find((option) => option.shape.tool.value === tool);
  if (whole === undefined) throw new Error(`there is no tool ${tool}`);
  const { tool: _, callId: __, ...shape } = whole.shape as Record<string, z.ZodType>;
  return route({
    method: 'POST',
    path: `/v1/runs/{run}/calls/{callId}/${name}`,
    operation,
    tag,
    summary,
    scope: 'call',
    params,
    headers: { 'Idempotency-Key': 'Id of this call about a call; default a new one.' },
    body: { kind: 'json', schema: z.strictObject(shape), optional: true, maxBytes: jsonBytesMax },
    reply: { description: 'What came of it.', schema: ToolResult },
    handle: async (asked): Promise<Reply> => {
      const { service, principal, params: of, body } = asked as OfCall;
      const call = { ...(body as object), tool, callId: of.callId } as ToolCallInput;
      return json(await service.calls.make(principal, of.run, ownCallId(asked.header), call));
    },
  });
}

/** It is checked where every call is. */
function withPayload(text: string, bytes: Uint8Array): ToolCallInput {
  let call: unknown;
  try {
    call = JSON.parse(text);
  } catch {
    throw new RunnerError('invalid_request', 'the query call is not JSON');
  }
  const tool = typeof call === 'object' && call !== null && 'tool' in call ? call.tool : undefined;
  const field = payloadOf(tool);
  if (field === undefined || Object.hasOwn(call as object, field))
    throw new RunnerError(
      'invalid_request',
      `a call with a body of its own is one of ${Object.keys(payloads).join(', ')}, without what the body is`,
    );
  const whole: unknown = { ...(call as object), [field]: field === 'tar' ? bytes : { base64: bytes } };
  return whole as ToolCallInput;
}

/** Of a request that is a call by itself. */
export function ownCallId(header: (name: string) => string | undefined): string {
  const given = header('idempotency-key');
  if (given === undefined) return `http-${newId()}`;
  if (callIdPattern.test(given)) return given;
  throw new RunnerError('invalid_request', `Idempotency-Key is an id of a call here: ${callIdPattern.source}`);
}
