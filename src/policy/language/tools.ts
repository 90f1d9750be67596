import { z } from 'zod';
import { field } from './fields.ts';

/** Every tool there is; a test compares the list with the tools. */
export const toolNames = [
  'exec',
  'exec_poll',
  'exec_write',
  'exec_signal',
  'exec_kill',
  'exec_resize',
  'exec_list',
  'output',
  'session_reset',
  'stat',
  'read',
  'write',
  'edit',
  'apply_patch',
  'list',
  'glob',
  'grep',
  'mkdir',
  'move',
  'remove',
  'upload',
  'download',
] as const;

const allowed = z
  .array(
    z.enum(toolNames, {
      error: (issue) => `no tool ${JSON.stringify(issue.input)}; there are: ${toolNames.join(', ')}`,
    }),
  )
  .min(1, 'no tool at all is allowed; leave tools out to allow every one')
  .readonly();

export const Tools = z.strictObject({
  allow: field(allowed, 'Tools that are offered; the others are not listed and not answered.', [...toolNames]),
});
