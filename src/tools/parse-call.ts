import { z } from 'zod';
import { RunnerError } from '../errors.ts';
import { callIdPattern } from '../ids.ts';
import { ToolCall, type ToolCallInput } from './tool-call.ts';

/** At the door: a call as a harness writes it, with its id. Throws `invalid_request`. */
export function parseCall(callId: string, input: ToolCallInput): ToolCall {
  if (!callIdPattern.test(callId))
    throw new RunnerError(
      'invalid_request',
      `call id ${JSON.stringify(callId.slice(0, 80))} must match ${callIdPattern.source}`,
    );
  const parsed = ToolCall.safeParse(input);
  if (!parsed.success) throw new RunnerError('invalid_request', `call ${callId}: ${whatIsWrong(parsed.error)}`);
  return parsed.data;
}

/** The first of it: there may be as much as the input has values, and it is sorted. */
export function whatIsWrong({ issues }: z.ZodError): string {
  return z.prettifyError({ issues: issues.slice(0, issuesMax) });
}

const issuesMax = 20;
