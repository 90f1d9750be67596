import { RunId } from '../../contract/fields.ts';
import { GiveReview, ReviewRecordView, ReviewView, SetbackList } from '../../contract/review-view.ts';
import { json, route, type Route } from '../route.ts';

const tag = 'reviews';
const params = { run: RunId };

export const reviewRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/runs/{run}/review',
    operation: 'getReview',
    tag,
    summary:
      'What a reviewer has to see of a closed run: files by risk, gates, what stayed behind, what happened, what is asked.',
    scope: 'read',
    params,
    reply: { description: 'As `glovebox review` shows it; the diff is at /patch.', schema: ReviewView },
    handle: async ({ service, principal, params: { run } }) => json(await service.proposals.review(principal, run)),
  }),
  route({
    method: 'POST',
    path: '/v1/runs/{run}/reviews',
    operation: 'giveReview',
    tag,
    summary:
      'Accepts or rejects exactly this manifest, as the identity of the key; never of whoever opened the run or takes part in it. The same word twice is one.',
    scope: 'approve',
    params,
    body: { kind: 'json', schema: GiveReview },
    reply: { status: 201, description: 'The review, as it is kept.', schema: ReviewRecordView },
    handle: async ({ service, principal, params: { run }, body }) =>
      json(await service.proposals.give(principal, run, body), 201),
  }),
  route({
    method: 'GET',
    path: '/v1/runs/{run}/setbacks',
    operation: 'listSetbacks',
    tag,
    summary:
      'Earlier promotions of the files that the run has changed, which were rolled back. Of an open run no command may run.',
    scope: 'read',
    params,
    reply: { description: 'The latest first.', schema: SetbackList },
    handle: async ({ service, principal, params: { run } }) =>
      json({ setbacks: await service.proposals.setbacks(principal, run) }),
  }),
];
