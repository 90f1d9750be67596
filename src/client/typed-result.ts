import type { ToolCallInput, ToolName } from '../tools/tool-call.ts';
import type { ToolData, ToolResult } from '../tools/tool-result.ts';

/** Which data each tool answers with. */
interface KindOf {
  readonly exec: 'exec';
  readonly exec_poll: 'exec';
  readonly exec_list: 'calls';
  readonly output: 'output';
  readonly stat: 'entry';
  readonly write: 'entry';
  readonly read: 'content';
  readonly edit: 'edited';
  readonly apply_patch: 'patched';
  readonly list: 'entries';
  readonly glob: 'entries';
  readonly grep: 'matches';
  readonly upload: 'unpacked';
  readonly download: 'archive';
}

export type DataOf<T extends ToolName> = Extract<
  ToolData,
  { readonly kind: T extends keyof KindOf ? KindOf[T] : 'done' }
>;

/** The result of one tool: `data` is that tool's, or null where there is an `error`. */
export type ResultOf<T extends ToolName> = Omit<ToolResult, 'data'> & { readonly data: DataOf<T> | null };

export type CallOf<T extends ToolName> = Extract<ToolCallInput, { tool: T }>;

/** The arguments of a tool, without its name and what comes before. */
export type ArgumentsOf<T extends ToolName, Given extends string = never> = Omit<CallOf<T>, 'tool' | Given>;
