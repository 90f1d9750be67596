import { z } from 'zod';
import { errorTable, RunnerError, type ErrorCode } from '../errors.ts';

/**
 * What is spoken through the door of a run: HTTP/1.1 on a unix socket in its directory.
 *
 *   GET  /state                         -> 200 RunState
 *   POST /narrow  {"without": [id]}     -> 200 RunState
 *   POST /revoke  {"credential": name}  -> 200 RunState
 *   GET  /end                           -> 204 when the run closes; the connection breaks when its process dies
 *   CONNECT 127.0.0.1:PORT              -> 200, then the bytes of a connection to that port inside
 *
 * Whatever fails answers with its status and {"error": {"code", "message"}}, codes as in `errors.ts`.
 */
export const messageBytesMax = 65_536;

export const Narrow = z.strictObject({ without: z.array(z.string().min(1).max(64)).min(1).max(256).readonly() });
export const Revoke = z.strictObject({ credential: z.string().min(1).max(64) });

const codes = Object.keys(errorTable) as [ErrorCode, ...ErrorCode[]];
export const Failure = z.strictObject({
  error: z.strictObject({ code: z.enum(codes), message: z.string().max(messageBytesMax) }),
});
export type Failure = z.infer<typeof Failure>;

export function failureOf(error: unknown): { readonly status: number; readonly body: Failure } {
  const known =
    error instanceof RunnerError ? error : new RunnerError('internal', 'the runner failed; see its journal');
  return { status: known.status, body: { error: { code: known.code, message: known.message.slice(0, 8_192) } } };
}

/** `127.0.0.1:PORT`, the one kind of place that a tunnel leads to. */
export function portOf(target: string): number | undefined {
  const [, digits] = /^127\.0\.0\.1:([1-9]\d{0,4})$/.exec(target) ?? [];
  const port = Number(digits);
  return port >= 1 && port <= 65_535 ? port : undefined;
}
