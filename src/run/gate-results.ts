import type { ToolResult } from '../tools/tool-result.ts';
import type { Refusal } from './gate.ts';

export type Denial = Pick<Refusal, 'rule' | 'reason' | 'hint'>;

/** The answer to a call that the gate has refused: why, by which rule, and what would be let in. */
export function deniedResult(callId: string, tool: string, { rule, reason, hint }: Denial): ToolResult {
  const message = `${reason} (rule ${rule}). ${hint}`;
  const error = { code: 'denied', message, path: null } as const;
  return { callId, tool, ok: false, text: `Denied: ${message}`, data: null, error };
}

/** What the gate had to say of a call that it let in. */
export function withWarning(result: ToolResult, warning: string | undefined): ToolResult {
  return warning === undefined ? result : { ...result, text: `${result.text}\n[glovebox: ${warning}]` };
}
