import { z } from 'zod';
import { ApprovalFilter, ApprovalList, ApprovalView, DecideApproval } from '../../contract/approval-view.ts';
import { EventFilter, ServiceEvent } from '../../contract/event.ts';
import { idPattern } from '../../ids.ts';
import { eventStream, type Sent } from '../event-stream.ts';
import { json, route, type Route } from '../route.ts';

const ApprovalId = z.string().regex(idPattern);
/** Events that are sent in one piece: who has missed many gets them in turn with others. */
const atOnceMax = 256;

export const approvalRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/approvals',
    operation: 'listApprovals',
    tag: 'approvals',
    summary: 'What waits for somebody in the runs of the own team, and what was decided lately.',
    scope: 'read',
    query: ApprovalFilter,
    reply: { description: 'The approvals.', schema: ApprovalList },
    handle: ({ service, principal, query }) => json({ approvals: service.desk.list(principal, query) }),
  }),
  route({
    method: 'GET',
    path: '/v1/approvals/{approval}',
    operation: 'getApproval',
    tag: 'approvals',
    summary: 'One of them: exactly what would be approved.',
    scope: 'read',
    params: { approval: ApprovalId },
    reply: { description: 'The approval.', schema: ApprovalView },
    handle: ({ service, principal, params: { approval } }) => json(service.desk.get(principal, approval)),
  }),
  route({
    method: 'POST',
    path: '/v1/approvals/{approval}',
    operation: 'decideApproval',
    tag: 'approvals',
    summary: 'Answers it, once for each identity; never of whoever opened the run or takes part in it.',
    scope: 'approve',
    params: { approval: ApprovalId },
    body: { kind: 'json', schema: DecideApproval },
    reply: { description: 'How it stands now.', schema: ApprovalView },
    handle: ({ service, principal, params: { approval }, body }) =>
      json(service.desk.decide(principal, approval, body, new Date().toISOString())),
  }),
  route({
    method: 'GET',
    path: '/v1/events',
    operation: 'followEvents',
    tag: 'events',
    summary: 'What happens in the runs of the own team, from now on or after Last-Event-ID.',
    scope: 'read',
    query: EventFilter,
    headers: { 'Last-Event-ID': 'Of the last event that arrived. An event `gap` says that some are no longer kept.' },
    lasting: true,
    reply: { description: 'Server-sent events; data is JSON.', schema: ServiceEvent, also: ['text/event-stream'] },
    handle: (asked) => {
      const { service, principal, query, header } = asked;
      const { events } = service;
      const { team } = principal;
      const last = header('last-event-id');
      let at = last === undefined ? events.last(team) : events.numberOf(team, last);
      const next = async (waitMs: number): Promise<readonly Sent[] | null> => {
        const byMs = performance.now() + waitMs;
        for (;;) {
          const from = at;
          const found = from === undefined ? undefined : events.after(team, from, atOnceMax);
          if (from === undefined || found === undefined) {
            at = events.last(team);
            return [{ id: events.idOf(at), event: 'gap', data: '{}' }];
          }
          at = from + found.length;
          const wanted = found.flatMap((event, index) =>
            query.run === undefined || event.run === query.run
              ? [{ id: events.idOf(from + index + 1), event: event.type, data: JSON.stringify(event) }]
              : [],
          );
          if (wanted.length > 0) return wanted;
          if (found.length > 0) continue;
          const leftMs = byMs - performance.now();
          if (leftMs <= 0) return null;
          await events.waitBeyond(team, at, leftMs);
        }
      };
      return { kind: 'stream', contentType: 'text/event-stream', body: eventStream(next, asked) };
    },
  }),
];
