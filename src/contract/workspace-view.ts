import { z } from 'zod';
import { idPattern } from '../ids.ts';
import { Time } from './fields.ts';

export const WorkspaceId = z.string().regex(idPattern).describe('Id of an uploaded workspace.');

/** A workspace that was sent, for runs to open from. */
export const WorkspaceView = z.strictObject({
  id: WorkspaceId,
  digest: z.string().describe('Of its files: the same files have the same.'),
  files: z.int(),
  bytes: z.int(),
  createdAt: Time,
  expiresAt: Time.describe('A day after the last run that was opened from it.'),
});
export type WorkspaceView = z.infer<typeof WorkspaceView>;

export const WorkspaceList = z.strictObject({ workspaces: z.array(WorkspaceView).readonly() });
