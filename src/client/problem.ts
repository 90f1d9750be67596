import { isErrorCode, RunnerError, type ErrorCode } from '../errors.ts';
import type { Answer } from './transport.ts';

const problemBytesMax = 65_536;

/** What a service answers instead of what was asked for (RFC 9457), as the error that it stands for. */
export async function problemOf(answer: Answer, asked: string): Promise<RunnerError> {
  const said = await readProblem(answer);
  return errorOf(said, codeOfStatus(answer.status), `the service answered ${answer.status} to ${asked}`, answer);
}

/** The same at the end of a stream. */
export function problemIn(data: string, asked: string): RunnerError {
  return errorOf(parseProblem(data), 'internal', `the service broke off ${asked}`);
}

function errorOf(
  { code, detail, requestId, retryAfterMs }: Readonly<Record<string, unknown>>,
  otherwise: ErrorCode,
  text: string,
  answer?: Answer,
): RunnerError {
  const strange = isErrorCode(code) || code === undefined ? '' : ` (code ${JSON.stringify(code).slice(0, 80)})`;
  const message = `${typeof detail === 'string' ? detail : text}${strange}`;
  return new RunnerError(isErrorCode(code) ? code : otherwise, message, {
    requestId: typeof requestId === 'string' ? requestId : answer?.header('x-request-id'),
    retryAfterMs: typeof retryAfterMs === 'number' ? retryAfterMs : undefined,
  });
}

async function readProblem(answer: Answer): Promise<Readonly<Record<string, unknown>>> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of answer.body) {
    bytes += chunk.length;
    if (bytes > problemBytesMax) {
      answer.discard();
      return {};
    }
    chunks.push(chunk);
  }
  return parseProblem(Buffer.concat(chunks).toString('utf8'));
}

function parseProblem(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}

/** Of an answer that did not come from a service of ours: a proxy between, or another program. */
function codeOfStatus(status: number): ErrorCode {
  if (status === 401) return 'unauthenticated';
  if (status === 403) return 'forbidden';
  if (status === 404) return 'not_found';
  if (status === 429) return 'rate_limited';
  if (status === 502 || status === 503 || status === 504) return 'service_unavailable';
  return status >= 400 && status < 500 ? 'invalid_request' : 'internal';
}
