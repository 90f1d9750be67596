import { STATUS_CODES } from 'node:http';
import type { Problem } from '../contract/problem.ts';
import { isRunnerError, RunnerError } from '../errors.ts';
import { maskKeys } from './log.ts';
import type { ToolErrorCode, ToolResult } from '../tools/tool-result.ts';

/** A tool's refusal, where a file was asked for by its own route. */
export class ToolProblem extends RunnerError {
  readonly tool: { readonly code: string; readonly path: string | null };

  constructor(error: NonNullable<ToolResult['error']>) {
    super(codeOf[error.code] ?? 'invalid_request', error.message);
    this.tool = { code: error.code, path: error.path };
  }
}

const codeOf: Partial<Record<ToolErrorCode, 'not_found' | 'policy_denied' | 'conflict' | 'limit_exceeded'>> = {
  not_found: 'not_found',
  permission_denied: 'policy_denied',
  read_only: 'policy_denied',
  denied: 'policy_denied',
  waiting_for_approval: 'conflict',
  exists: 'conflict',
  conflict: 'conflict',
  not_empty: 'conflict',
  too_large: 'limit_exceeded',
  no_space: 'limit_exceeded',
};

const detailMax = 4_000;

/** What a caller is told. Of what is no `RunnerError` nothing is said: it may hold anything. */
export function problemOf(error: unknown, requestId: string, hide: (text: string) => string): Problem {
  const known = isRunnerError(error)
    ? error
    : new RunnerError('internal', 'a mistake of the service; its log has more');
  const { code, status, retryAfterMs } = known;
  return {
    type: 'about:blank',
    title: STATUS_CODES[status] ?? code,
    status,
    code,
    detail: maskKeys(hide(known.message)).slice(0, detailMax),
    requestId,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(known instanceof ToolProblem ? { tool: known.tool } : {}),
  };
}

export function problemHeaders(problem: Problem): Record<string, string> {
  const headers: Record<string, string> = { 'content-type': 'application/problem+json' };
  if (problem.retryAfterMs !== undefined) headers['retry-after'] = String(Math.ceil(problem.retryAfterMs / 1000));
  if (problem.status === 401) headers['www-authenticate'] = 'Bearer';
  return headers;
}

/** Paths of the machine of the service are nobody's business: `<data>/runs/...`. */
export function hider(places: Readonly<Record<string, string>>): (text: string) => string {
  const known = Object.entries(places).sort(([a], [b]) => b.length - a.length);
  return (text) => known.reduce((hidden, [path, name]) => hidden.replaceAll(path, name), text);
}
