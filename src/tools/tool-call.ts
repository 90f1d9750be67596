import { z } from 'zod';
import * as exec from './calls/exec-calls.ts';
import * as file from './calls/file-calls.ts';
import * as search from './calls/search-calls.ts';

/** Everything a harness can ask of a sandbox. Validation, documentation and protocol descriptions come from here alone. */
export const ToolCall = z.discriminatedUnion('tool', [
  exec.ExecCall,
  exec.ExecPollCall,
  exec.ExecWriteCall,
  exec.ExecSignalCall,
  exec.ExecKillCall,
  exec.ExecResizeCall,
  exec.ExecListCall,
  exec.OutputCall,
  exec.SessionResetCall,
  file.StatCall,
  file.ReadCall,
  file.WriteCall,
  file.EditCall,
  file.ApplyPatchCall,
  search.ListCall,
  search.GlobCall,
  search.GrepCall,
  file.MkdirCall,
  file.MoveCall,
  file.RemoveCall,
  file.UploadCall,
  file.DownloadCall,
]);
export type ToolCall = z.infer<typeof ToolCall>;

/** The same with defaults still optional: what a client writes. */
export type ToolCallInput = z.input<typeof ToolCall>;

export type ToolName = ToolCall['tool'];

const observers: ReadonlySet<string> = new Set<ToolName>(['exec_poll', 'exec_list', 'output']);

/** It looks at what is on record already: that costs nothing, and leaves no entry of its own. */
export function isObserver({ tool }: Pick<ToolCallInput, 'tool'>): boolean {
  return observers.has(tool);
}
