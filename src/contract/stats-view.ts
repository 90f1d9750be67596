import { z } from 'zod';
import { groupings, Stats } from '../stats/stats.ts';
import { Time } from './fields.ts';

export const StatsQuery = z.strictObject({
  since: Time.optional().describe('Only runs that were opened since then. Default: 30 days ago.'),
  by: z.enum(groupings).optional().describe('How runs are put together. Default: lane.'),
});
export type StatsQuery = z.infer<typeof StatsQuery>;

/** `docs/stats.md` defines every number. */
export const StatsView = Stats;
export type StatsView = Stats;
