import { z } from 'zod';
import { queryNumber } from './fields.ts';

const Stream = z.enum(['merged', 'stdout', 'stderr']);

export const OutputQuery = z.strictObject({
  stream: Stream.default('merged').describe('Offsets of one view mean nothing in another.'),
  offset: queryNumber(0, Number.MAX_SAFE_INTEGER).optional().describe('First byte; default 0.'),
  maxBytes: queryNumber(1, 1_048_576).optional().describe('Of one reply; default 65,536.'),
  waitMs: queryNumber(0, 60_000)
    .optional()
    .describe('Wait so long for more, and for the call to start; default 0, of a stream 10,000.'),
});
export type OutputQuery = z.infer<typeof OutputQuery>;

export const OutputView = z.strictObject({
  offset: z.int(),
  nextOffset: z.int().describe('Ask for this one next: nothing is lost or repeated.'),
  ended: z.boolean().describe('The call has ended and nextOffset is the end.'),
  base64: z.string().describe('The exact bytes.'),
  text: z.string().describe('The same as text to look at; what is no UTF-8 shows as U+FFFD.'),
});
export type OutputView = z.infer<typeof OutputView>;

/** Data of the last event of a stream, `end`; those before are base64, their id the offset that comes next. */
export interface OutputEnd {
  readonly nextOffset: number;
  readonly exitCode: number | null;
}
