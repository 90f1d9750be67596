import { z } from 'zod';
import { Health, ImageList, PolicyList, PolicyView } from '../../contract/service-view.ts';
import { policyNamePattern } from '../../contract/run-view.ts';
import { StatsQuery, StatsView } from '../../contract/stats-view.ts';
import { RunnerError } from '../../errors.ts';
import { json, route, type Route } from '../route.ts';

/** About the service itself. */
export function serviceRoutes(openApi: () => unknown): readonly Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/health/live',
      operation: 'getLive',
      tag: 'service',
      summary: 'The process answers.',
      scope: 'none',
      reply: { description: 'It does.', schema: Health },
      handle: () => json({ ok: true }),
    }),
    route({
      method: 'GET',
      path: '/v1/health/ready',
      operation: 'getReady',
      tag: 'service',
      summary: 'The service opens runs: its engine answers, its disk has room, and it is not about to stop.',
      scope: 'none',
      reply: { description: 'It does.', schema: Health },
      handle: async ({ service, watch }) => {
        if (service.draining)
          throw new RunnerError('draining', 'the service is about to stop', { retryAfterMs: 5_000 });
        await service.room.refuse('the service opens no runs');
        watch.metrics.engineAnswered(await service.probe());
        return json({ ok: true });
      },
    }),
    route({
      method: 'GET',
      path: '/v1/openapi.json',
      operation: 'getOpenApi',
      tag: 'service',
      summary: 'This document.',
      scope: 'none',
      reply: { description: 'OpenAPI 3.1.', schema: z.record(z.string(), z.unknown()) },
      handle: () => json(openApi()),
    }),
    route({
      method: 'GET',
      path: '/metrics',
      operation: 'getMetrics',
      tag: 'service',
      summary: 'For Prometheus.',
      scope: 'admin',
      reply: { description: 'In the text format of Prometheus.', also: ['text/plain; version=0.0.4'] },
      handle: async ({ service, watch }) => {
        await service.room.look();
        const contentType = 'text/plain; version=0.0.4; charset=utf-8';
        return { kind: 'text', contentType, text: await watch.metrics.text() };
      },
    }),
    route({
      method: 'GET',
      path: '/v1/stats',
      operation: 'getStats',
      tag: 'service',
      summary: 'What the runs of the own team took, and what became of them; docs/stats.md defines every number.',
      scope: 'read',
      query: StatsQuery,
      reply: { description: 'The numbers; `seen.unread`: ask again.', schema: StatsView },
      handle: async ({ service, principal, query }) => json(await service.stats.stats(principal, query)),
    }),
    route({
      method: 'GET',
      path: '/v1/images',
      operation: 'listImages',
      tag: 'service',
      summary: 'The images that there are recipes for, and which of them are built.',
      scope: 'read',
      reply: { description: 'The images.', schema: ImageList },
      handle: async ({ service }) => json({ images: await service.images() }),
    }),
    route({
      method: 'GET',
      path: '/v1/policies',
      operation: 'listPolicies',
      tag: 'service',
      summary: 'The names of the policies that runs can be opened with; of those, what this key may use.',
      scope: 'read',
      reply: { description: 'The names.', schema: PolicyList },
      handle: async ({ service, principal }) => {
        const names = await service.policies.names();
        const { policies } = principal;
        return json({ policies: policies === 'any' ? names : names.filter((name) => policies.includes(name)) });
      },
    }),
    route({
      method: 'GET',
      path: '/v1/policies/{name}',
      operation: 'getPolicy',
      tag: 'service',
      summary: 'A policy, as it is written.',
      scope: 'read',
      params: { name: z.string().regex(policyNamePattern) },
      reply: { description: 'The policy.', schema: PolicyView },
      handle: async ({ service, principal, params: { name } }) => {
        const may = principal.policies === 'any' || principal.policies.includes(name);
        const found = may ? await service.policies.find(name) : undefined;
        if (found === undefined) throw new RunnerError('not_found', `there is no policy ${name} here`);
        return json(found);
      },
    }),
  ];
}
