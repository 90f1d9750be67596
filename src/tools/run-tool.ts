import { FileError } from '../sandbox/spec.ts';
import { applyPatch } from './apply-patch.ts';
import { download, upload } from './archive-tools.ts';
import { edit } from './edit.ts';
import type { ExecCall } from './calls/exec-calls.ts';
import * as exec from './exec.ts';
import * as files from './files.ts';
import { glob, list } from './glob.ts';
import { grep } from './grep.ts';
import { renderText } from './result-text.ts';
import type { ToolCall } from './tool-call.ts';
import type { ToolContext } from './tool-context.ts';
import { ToolError, type ToolData, type ToolErrorCode, type ToolResult } from './tool-result.ts';

/**
 * Does one tool call, once. What the agent can act on is a result, also when it failed; only `RunnerError`s are thrown
 * (the harness asked wrongly, the sandbox is lost, or the runner broke).
 */
export async function runTool(context: ToolContext, callId: string, call: ToolCall): Promise<ToolResult> {
  try {
    const data = await dispatch(context, callId, call);
    const target = 'callId' in call ? call.callId : callId;
    return { callId, tool: call.tool, ok: isOk(data), text: renderText(data, target), data, error: null };
  } catch (error) {
    if (error instanceof FileError || error instanceof ToolError) return failed(callId, call, error);
    throw error;
  }
}

/** Answers for a command that runs or has ended, as the call that started it would have. Throws `call_not_found`. */
export async function answerAgain(context: ToolContext, callId: string, call: ExecCall): Promise<ToolResult> {
  const data = await exec.execAgain(context, callId, call);
  return { callId, tool: call.tool, ok: isOk(data), text: renderText(data, callId), data, error: null };
}

async function dispatch(context: ToolContext, callId: string, call: ToolCall): Promise<ToolData> {
  switch (call.tool) {
    case 'exec':
      return await exec.exec(context, callId, call);
    case 'exec_poll':
      return await exec.execPoll(context, call);
    case 'exec_write':
      return await exec.execWrite(context, call);
    case 'exec_signal':
      return await exec.execSignal(context, call);
    case 'exec_kill':
      return await exec.execKill(context, call);
    case 'exec_resize':
      return await exec.execResize(context, call);
    case 'exec_list':
      return exec.execList(context);
    case 'output':
      return await exec.output(context, call);
    case 'session_reset':
      await context.sessions.reset(call.session);
      return { kind: 'done' };
    case 'stat':
      return await files.stat(context, call);
    case 'read':
      return await files.read(context, call);
    case 'write':
      return await files.write(context, call);
    case 'edit':
      return await edit(context, call);
    case 'apply_patch':
      return await applyPatch(context, call);
    case 'list':
      return await list(context, call);
    case 'glob':
      return await glob(context, call);
    case 'grep':
      return await grep(context, call);
    case 'mkdir':
      return await files.mkdir(context, call);
    case 'move':
      return await files.move(context, call);
    case 'remove':
      return await files.remove(context, call);
    case 'upload':
      return await upload(context, call);
    case 'download':
      return await download(context, call);
  }
}

function isOk(data: ToolData): boolean {
  return data.kind !== 'exec' || data.outcome === null || (data.outcome.kind === 'exited' && data.exitCode === 0);
}

function failed(callId: string, call: ToolCall, error: FileError | ToolError): ToolResult {
  const code: ToolErrorCode = error.code;
  return {
    callId,
    tool: call.tool,
    ok: false,
    text: `${code}: ${error.message}`,
    data: null,
    error: { code, message: error.message, path: error.path ?? null },
  };
}
