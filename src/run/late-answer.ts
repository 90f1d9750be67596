import { isRunnerError, RunnerError } from '../errors.ts';
import type { Making } from './answers.ts';
import { answerAgain } from '../tools/run-tool.ts';
import { ToolCall } from '../tools/tool-call.ts';
import type { ToolContext } from '../tools/tool-context.ts';
import type { ToolResult } from '../tools/tool-result.ts';

/** A call that the runner before has begun. Of a command its output tells; what became of another one nobody knows. */
export async function answerLate(
  context: ToolContext,
  callId: string,
  call: ToolCall,
  making: Making,
): Promise<ToolResult> {
  making.begun();
  try {
    const asked = call.tool === 'exec' ? call : ToolCall.parse({ tool: 'exec', script: ':' });
    if (asked.tool === 'exec') return await answerAgain(context, callId, asked);
  } catch (error) {
    if (!isRunnerError(error, 'call_not_found')) throw error;
  }
  const message = `call ${callId} was made when the runner died, and nobody knows what became of it; look before you make it again, with a new id`;
  throw new RunnerError('outcome_unknown', message);
}
