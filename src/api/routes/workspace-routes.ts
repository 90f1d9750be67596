import { WorkspaceId, WorkspaceList, WorkspaceView } from '../../contract/workspace-view.ts';
import { uploadBytesMax } from '../../service/uploads.ts';
import { json, route, type Route } from '../route.ts';

const tag = 'workspaces';

export const workspaceRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/workspaces',
    operation: 'uploadWorkspace',
    tag,
    summary:
      'Sends the files that runs are to start from, as a plain tar without `.git`: all of it is checked before any of it is used. ' +
      'Runs are opened from it by its id; the same files of a team are kept once.',
    scope: 'run:open',
    body: { kind: 'stream', contentType: 'application/x-tar', maxBytes: uploadBytesMax },
    reply: { status: 201, description: 'It is there.', schema: WorkspaceView },
    handle: async ({ service, principal, body }) => json(await service.upload(principal, body), 201),
  }),
  route({
    method: 'GET',
    path: '/v1/workspaces',
    operation: 'listWorkspaces',
    tag,
    summary: 'What the own team has uploaded.',
    scope: 'read',
    reply: { description: 'Oldest first.', schema: WorkspaceList },
    handle: async ({ service, principal }) => json({ workspaces: await service.uploads.list(principal) }),
  }),
  route({
    method: 'DELETE',
    path: '/v1/workspaces/{workspace}',
    operation: 'removeWorkspace',
    tag,
    summary: 'Runs that were opened from it go on.',
    scope: 'run:open',
    params: { workspace: WorkspaceId },
    reply: { status: 204, description: 'It is gone.' },
    handle: async ({ service, principal, params: { workspace } }) => {
      await service.uploads.remove(principal, workspace);
      return { kind: 'nothing' };
    },
  }),
];
