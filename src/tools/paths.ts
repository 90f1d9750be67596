import { parsePatch } from './patch/parse-patch.ts';
import type { ToolCall } from './tool-call.ts';
import { ToolError } from './tool-result.ts';

/**
 * Which paths a call says it reads and writes, as it gave them: what a policy can decide on before anything runs.
 * A command's own file accesses are not known here; the kernel decides those.
 */
export function pathsOf(call: ToolCall): { reads: string[]; writes: string[] } {
  switch (call.tool) {
    case 'stat':
    case 'read':
    case 'list':
    case 'download':
      return { reads: [call.path], writes: [] };
    case 'write':
    case 'edit':
    case 'mkdir':
    case 'remove':
    case 'upload':
      return { reads: [], writes: [call.path] };
    case 'move':
      return { reads: [], writes: [call.from, call.to] };
    case 'apply_patch':
      return { reads: [], writes: patchedPaths(call.patch) };
    default:
      return { reads: [], writes: [] };
  }
}

/** A patch that does not parse names nothing; applying it then says what is wrong with it. */
function patchedPaths(text: string): string[] {
  try {
    return parsePatch(text).files.flatMap((file) =>
      file.moveTo === undefined ? [file.path] : [file.path, file.moveTo],
    );
  } catch (error) {
    if (error instanceof ToolError) return [];
    throw error;
  }
}
