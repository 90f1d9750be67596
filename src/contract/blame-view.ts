import { z } from 'zod';
import { queryNumber } from './fields.ts';

export type { BlameReport } from '../context/blame-report.ts';

export const BlameQuery = z.strictObject({
  path: z.string().min(1).max(4096).describe('In the workspace.'),
  line: queryNumber(1, 1_000_000_000).optional().describe('Only this one, from 1; default all.'),
});
export type BlameQuery = z.infer<typeof BlameQuery>;
