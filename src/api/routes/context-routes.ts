import { z } from 'zod';
import { BlameQuery } from '../../contract/blame-view.ts';
import { AttachContext, AttachedView, ContextQuery, ContextView } from '../../contract/context-view.ts';
import { RunId } from '../../contract/fields.ts';
import { json, route, type Route } from '../route.ts';

const tag = 'context';
const params = { run: RunId };

export const contextRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/runs/{run}/context',
    operation: 'attachContext',
    tag,
    summary: 'What the agent believes from here on. The same snapshot twice is the same one.',
    scope: 'call',
    params,
    body: { kind: 'json', schema: AttachContext },
    reply: { status: 201, description: 'It is in force.', schema: AttachedView },
    handle: async ({ service, principal, params: { run }, body }) =>
      json(await service.contexts.attach(principal, run, body), 201),
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/context',
    operation: 'getContext',
    tag,
    summary: 'Who worked in a run and what they believed: now, or when a call was made.',
    scope: 'read',
    params,
    query: ContextQuery,
    reply: { description: 'Parts, snapshots, and the one that is asked about as a whole.', schema: ContextView },
    handle: async ({ service, principal, params: { run }, query: { call } }) =>
      json(await service.contexts.read(principal, run, call)),
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/blame',
    operation: 'getBlame',
    tag,
    summary:
      'Who wrote the lines of a file, open run or closed: the call, its model, what its agent believed, who approved.',
    scope: 'read',
    params,
    query: BlameQuery,
    reply: { description: 'As in context.md.', schema: z.record(z.string(), z.unknown()) },
    handle: async ({ service, principal, params: { run }, query }) =>
      json(await service.contexts.blame(principal, run, query)),
  }),
];
