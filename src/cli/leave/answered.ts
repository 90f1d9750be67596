import type { z } from 'zod';
import { RunnerError } from '../../errors.ts';

/** What a service has answered, held against its form before any of it is shown: the service may be anybody's. */
export function answered<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const message = `the service answers with ${what} in another form than this program reads (${issue?.path.join('.') ?? ''}); use the program of its version`;
  throw new RunnerError('internal', message, { cause: parsed.error });
}
