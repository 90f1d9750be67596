import { z } from 'zod';
import { KeyList, KeyView, NewKey } from '../../contract/key-view.ts';
import { idPattern } from '../../ids.ts';
import { KeyDraft } from '../../store/key-row.ts';
import { json, route, type Route } from '../route.ts';

const tag = 'keys';

export const keyRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/keys',
    operation: 'createKey',
    tag,
    summary: 'Makes a key for the own team, that may no more than the one in use; the owner of the machine makes any.',
    scope: 'admin',
    body: { kind: 'json', schema: KeyDraft },
    reply: { status: 201, description: 'The key, with its secret, which is shown this once.', schema: NewKey },
    handle: ({ service, principal, body }) => json(service.keys.create(principal, body), 201),
  }),
  route({
    method: 'GET',
    path: '/v1/keys',
    operation: 'listKeys',
    tag,
    summary: 'The keys of the own team, those that are over too.',
    scope: 'admin',
    reply: { description: 'Oldest first.', schema: KeyList },
    handle: ({ service, principal }) => json({ keys: service.keys.list(principal) }),
  }),
  route({
    method: 'DELETE',
    path: '/v1/keys/{key}',
    operation: 'revokeKey',
    tag,
    summary: 'The key is of no use any more, at once. Twice is fine.',
    scope: 'admin',
    params: { key: z.string().regex(idPattern) },
    reply: { description: 'The key, revoked.', schema: KeyView },
    handle: ({ service, principal, params: { key } }) => json(service.keys.revoke(principal, key)),
  }),
];
