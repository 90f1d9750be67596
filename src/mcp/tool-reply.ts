import type { CallToolResult } from '@modelcontextprotocol/server';
import { isRunnerError, messageOf } from '../errors.ts';
import type { BytesView, ToolData, ToolResult } from '../tools/tool-result.ts';

/**
 * A result as the protocol says it. Some clients show their model the text, some the structured content: both say all of it, the
 * output once. `isError` is for what was not done; a command that failed was done.
 */
export function toolReply(result: ToolResult, options: { readonly textOnly?: boolean } = {}): CallToolResult {
  const { callId, ok, text, data, error } = result;
  const facts = { callId, ok, text, ...(error === null ? {} : { error }), ...factsOf(data) };
  return {
    content: [{ type: 'text', text }],
    ...(options.textOnly === true ? {} : { structuredContent: facts }),
    isError: error !== null,
  };
}

/** That a context snapshot is on record. */
export function contextReply(
  callId: string,
  attached: { readonly number: number; readonly digest: string },
): CallToolResult {
  const text = `It is on record as context ${attached.number} of this run.`;
  return {
    content: [{ type: 'text', text }],
    structuredContent: { callId, ok: true, text, ...attached },
    isError: false,
  };
}

/** What went wrong on our side, or was asked wrongly: the model may put the latter right. */
export function failureReply(callId: string, failure: unknown): CallToolResult {
  const code = isRunnerError(failure) ? failure.code : 'internal';
  const message = isRunnerError(failure) ? messageOf(failure) : 'the runner failed; its own log says how';
  return {
    content: [{ type: 'text', text: `${code}: ${message}` }],
    structuredContent: { callId, ok: false, text: `${code}: ${message}`, error: { code, message, path: null } },
    isError: true,
  };
}

/** What the text does not say, or says in words. */
function factsOf(data: ToolData | null): Record<string, unknown> {
  switch (data?.kind) {
    case undefined:
    case 'done':
    case 'unpacked':
      return {};
    case 'exec': {
      const { state, outcome, exitCode, nextOffset, totalBytes, wallMs, egressDenied, session } = data;
      const refused = egressDenied.length === 0 ? {} : { egressDenied };
      const shell = session === null ? {} : { session };
      return { state, outcome, exitCode, nextOffset, totalBytes: totalBytes.merged, wallMs, ...refused, ...shell };
    }
    case 'calls':
      return { calls: data.calls };
    case 'output': {
      const { offset, nextOffset, totalBytes, ended, content } = data;
      return { offset, nextOffset, totalBytes, ended, ...exactly(content) };
    }
    case 'entry':
      return { entry: data.entry };
    case 'content': {
      const { entry, offset, firstLine, lastLine, truncated, content } = data;
      return { entry, offset, firstLine, lastLine, truncated, ...exactly(content) };
    }
    case 'edited':
      return { path: data.path, lines: data.lines, digest: data.digest };
    case 'patched':
      return { dryRun: data.dryRun, files: data.files.map(({ path, action, digest }) => ({ path, action, digest })) };
    case 'entries':
      return { entries: data.entries.length, truncated: data.truncated };
    case 'matches': {
      const { matchCount, filesMatched, filesSearched, truncated } = data;
      return { matchCount, filesMatched, filesSearched, truncated };
    }
    case 'archive':
      return { base64: data.base64, entries: data.entries, bytes: data.bytes, skipped: data.skipped };
  }
}

/** Bytes that are not text, as they are. */
function exactly(content: BytesView): { base64?: string } {
  return content.base64 === null ? {} : { base64: content.base64 };
}
