import { ToolCall } from './tool-call.ts';
import type { StartedCall } from './started-call.ts';
import type { ToolContext } from './tool-context.ts';

/**
 * A command that a runner before has started: it can be asked for again, and its session stands where it ends. `asked`: what it
 * was started with, as the journal has it; without it, or where that was too long to be kept, its session is left as it was.
 */
export function takeUpCall(context: ToolContext, call: StartedCall, asked: unknown): void {
  context.calls.add(call);
  const parsed = ToolCall.safeParse(asked);
  if (!parsed.success || parsed.data.tool !== 'exec' || parsed.data.session === undefined) return;
  const { session, tty, env = {} } = parsed.data;
  context.sessions.capture(session, call, { ...(tty === undefined ? {} : { tty }), env });
}
