import {
  CloseRun,
  ForkedRuns,
  ForkRun,
  OpenRun,
  RestoreSnapshot,
  RunFilter,
  RunPage,
  RunView,
  BudgetView,
  SnapshotList,
  SnapshotView,
  TakeSnapshot,
} from '../../contract/run-view.ts';
import { RunId } from '../../contract/fields.ts';
import { ToolList } from '../../contract/tool-list.ts';
import { RunnerError } from '../../errors.ts';
import { json, route, type Route } from '../route.ts';

const tag = 'runs';
const params = { run: RunId };
const idempotencyPattern = /^[\x21-\x7e]{1,255}$/;

export const runRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/runs',
    operation: 'openRun',
    tag,
    summary: 'Opens a run: a sandbox with its own journal and budget. A client that goes away gives the opening up.',
    scope: 'run:open',
    headers: { 'Idempotency-Key': 'The same request with the same key opens one run, however often it is sent.' },
    body: { kind: 'json', schema: OpenRun, optional: true },
    reply: { status: 201, description: 'The run is open.', schema: RunView },
    handle: async ({ service, principal, body, header, gone }) => {
      const idempotencyKey = header('idempotency-key');
      if (idempotencyKey !== undefined && !idempotencyPattern.test(idempotencyKey))
        throw new RunnerError('invalid_request', 'Idempotency-Key is 1 to 255 printable characters');
      return json(await service.openRun(principal, body, { idempotencyKey, signal: gone() }), 201);
    },
  }),
  route({
    method: 'GET',
    path: '/v1/runs',
    operation: 'listRuns',
    tag,
    summary: 'The runs of the own team, newest first.',
    scope: 'read',
    query: RunFilter,
    reply: { description: 'A page of them.', schema: RunPage },
    handle: ({ service, principal, query }) => json(service.listRuns(principal, query)),
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}',
    operation: 'getRun',
    tag,
    summary: 'How a run stands.',
    scope: 'read',
    params,
    reply: { description: 'The run.', schema: RunView },
    handle: ({ service, principal, params: { run } }) => json(service.getRun(principal, run)),
  }),
  route({
    method: 'POST',
    path: '/v1/runs/{run}/close',
    operation: 'closeRun',
    tag,
    summary: 'Ends what still runs, takes the diff, seals the journal, removes the sandbox. Twice is fine.',
    scope: 'call',
    params,
    body: { kind: 'json', schema: CloseRun, optional: true },
    reply: { description: 'The run, closed.', schema: RunView },
    handle: async ({ service, principal, params: { run }, body }) => json(await service.closeRun(principal, run, body)),
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/budget',
    operation: 'getBudget',
    tag,
    summary: 'What is left of the budget of an open run.',
    scope: 'read',
    params,
    reply: { description: 'What is left.', schema: BudgetView },
    handle: ({ service, principal, params: { run } }) => json(service.find(principal, run, 'read').run.remaining()),
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/tools',
    operation: 'listTools',
    tag,
    summary: 'The tools that this run offers, with the schemas of their arguments.',
    scope: 'read',
    params,
    reply: { description: 'The tools.', schema: ToolList },
    handle: ({ service, principal, params: { run } }) =>
      json({ tools: service.find(principal, run, 'read').run.tools() }),
  }),
  route({
    method: 'POST',
    path: '/v1/runs/{run}/snapshots',
    operation: 'takeSnapshot',
    tag,
    summary: 'Where an open run stands, to come back to or to fork from. No command may run.',
    scope: 'call',
    params,
    body: { kind: 'json', schema: TakeSnapshot, optional: true },
    reply: {
      status: 201,
      description: 'The snapshot; it is kept as long as the run is open.',
      schema: SnapshotView,
    },
    handle: async ({ service, principal, params: { run }, body }) =>
      json(await service.takeSnapshot(principal, run, body), 201),
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/snapshots',
    operation: 'listSnapshots',
    tag,
    summary: 'The snapshots of an open run.',
    scope: 'read',
    params,
    reply: { description: 'Oldest first.', schema: SnapshotList },
    handle: async ({ service, principal, params: { run } }) =>
      json({ snapshots: await service.find(principal, run, 'read').snapshots.list() }),
  }),
  route({
    method: 'POST',
    path: '/v1/runs/{run}/restore',
    operation: 'restoreSnapshot',
    tag,
    summary: 'Puts the workspace back to a snapshot. No command may run.',
    scope: 'call',
    params,
    body: { kind: 'json', schema: RestoreSnapshot },
    reply: { status: 204, description: 'It is as it was.' },
    handle: async ({ service, principal, params: { run }, body }) => {
      await service.restore(principal, run, body.snapshot);
      return { kind: 'nothing' };
    },
  }),
  route({
    method: 'POST',
    path: '/v1/runs/{run}/forks',
    operation: 'forkRun',
    tag,
    summary: 'New runs that start where this one stands, or stood: all of them or none.',
    scope: 'run:open',
    params,
    body: { kind: 'json', schema: ForkRun, optional: true },
    reply: { status: 201, description: 'The new runs.', schema: ForkedRuns },
    handle: async ({ service, principal, params: { run }, body, gone }) =>
      json({ runs: await service.fork(principal, run, body, gone()) }, 201),
  }),
];
