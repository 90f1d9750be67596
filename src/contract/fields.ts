import { z } from 'zod';
import { digestPattern, type Digest } from '../digest.ts';
import { callIdPattern, idPattern } from '../ids.ts';

/** Fields that several messages share. */
export const RunId = z.string().regex(idPattern).describe('Id of a run.');
export const CallId = z.string().regex(callIdPattern).describe('Chosen by the caller: the same id is the same call.');
export const Time = z.iso.datetime().describe('RFC 3339, UTC.');
export const DigestText = z
  .custom<Digest>((value) => typeof value === 'string' && digestPattern.test(value), 'sha256: and 64 hex digits')
  .meta({ type: 'string', pattern: digestPattern.source });
/** Of a query: text that says a whole number. */
export function queryNumber(min: number, max: number): z.ZodPipe<z.ZodString, z.ZodTransform<number, string>> {
  return z
    .string()
    .regex(/^\d{1,15}$/)
    .describe(`A whole number from ${min} to ${max}.`)
    .transform((text, context) => {
      const number = Number(text);
      if (number >= min && number <= max) return number;
      context.addIssue(`a whole number from ${min} to ${max}`);
      return z.NEVER;
    });
}
