import { z } from 'zod';
import { queryNumber, RunId } from '../../contract/fields.ts';
import {
  StartVerification,
  VerificationId,
  VerificationList,
  VerificationState,
} from '../../contract/verification-view.ts';
import { json, route, type Route } from '../route.ts';

const tag = 'verifications';
const params = { run: RunId };
const one = { ...params, verification: VerificationId };

export const verificationRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/runs/{run}/verifications',
    operation: 'startVerification',
    tag,
    summary:
      'Has a closed run judged by the gates of its policy, in clean sandboxes: answers with one that is newer than `after`, whether it is there, is being made, or begins now. It takes the place of a run, and goes on when its client leaves.',
    scope: 'call',
    params,
    body: { kind: 'json', schema: StartVerification, optional: true },
    reply: { status: 202, description: 'How it stands.', schema: VerificationState },
    handle: async ({ service, principal, params: { run }, body }) =>
      json(await service.verifications.start(principal, run, body), 202),
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/verifications',
    operation: 'listVerifications',
    tag,
    summary: 'What the gates found of a run, each time that they were asked.',
    scope: 'read',
    params,
    reply: { description: 'The newest hundred, and the one that is being made.', schema: VerificationList },
    handle: async ({ service, principal, params: { run } }) => json(await service.verifications.list(principal, run)),
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/verifications/{verification}',
    operation: 'getVerificationState',
    tag,
    summary: 'One of them; of one that is being made, how far it has come.',
    scope: 'read',
    params: one,
    query: z.strictObject({
      seen: queryNumber(0, 1_000_000).optional().describe('A step that was seen: waits for one beyond it.'),
      waitMs: queryNumber(0, 60_000).optional().describe('So long at most; default 0.'),
    }),
    reply: { description: 'How it stands.', schema: VerificationState },
    handle: async ({ service, principal, params: { run, verification }, query: { seen, waitMs = 0 } }) =>
      json(await service.verifications.get(principal, run, verification, { seen, waitMs })),
  }),
  route({
    method: 'POST',
    path: '/v1/runs/{run}/verifications/{verification}/cancel',
    operation: 'cancelVerification',
    tag,
    summary: 'Gives up one that is being made: nothing is kept of it. Of one that has ended it changes nothing.',
    scope: 'call',
    params: one,
    reply: { description: 'How it ended.', schema: VerificationState },
    handle: async ({ service, principal, params: { run, verification } }) =>
      json(await service.verifications.cancel(principal, run, verification)),
  }),
];
