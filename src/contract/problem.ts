import { z } from 'zod';
import { errorTable, type ErrorCode } from '../errors.ts';

const codes = Object.keys(errorTable) as [ErrorCode, ...ErrorCode[]];

/** RFC 9457. Programs look at `code`; `docs/errors.md` lists them. */
export const Problem = z
  .strictObject({
    type: z.string().describe('`about:blank`: code and status say it all.'),
    title: z.string().describe('The status in words.'),
    status: z.int(),
    code: z.enum(codes),
    detail: z.string().describe('What was tried, on what, and what to do next.'),
    requestId: z.string().describe('Of this request, as the log of the service has it.'),
    retryAfterMs: z.int().optional().describe('When it is worth asking again; `Retry-After` has it in seconds.'),
    tool: z
      .strictObject({ code: z.string(), path: z.string().nullable() })
      .optional()
      .describe('The answer of the tool, where a file was asked for.'),
  })
  .describe('What went wrong.');
export type Problem = z.infer<typeof Problem>;
