/**
 * The one table of what a caller can be told went wrong. `docs/errors.md` lists the same codes; a test compares them.
 * What an agent's own command caused is never here: that is an `Outcome` (`sandbox/outcome.ts`).
 *
 * status     HTTP status the service answers with
 * fault      who has to act: the caller, the operator of this machine, or the sandbox (hostile or dead)
 * retryable  the same request may succeed later without any change
 */
export const errorTable = {
  invalid_request: { status: 400, fault: 'caller', retryable: false },
  invalid_policy: { status: 400, fault: 'caller', retryable: false },
  invalid_path: { status: 400, fault: 'caller', retryable: false },
  unauthenticated: { status: 401, fault: 'caller', retryable: false },
  forbidden: { status: 403, fault: 'caller', retryable: false },
  method_not_allowed: { status: 405, fault: 'caller', retryable: false },
  not_found: { status: 404, fault: 'caller', retryable: false },
  policy_denied: { status: 403, fault: 'caller', retryable: false },
  budget_exhausted: { status: 403, fault: 'caller', retryable: false },
  run_not_found: { status: 404, fault: 'caller', retryable: false },
  call_not_found: { status: 404, fault: 'caller', retryable: false },
  image_not_found: { status: 404, fault: 'operator', retryable: false },
  image_not_allowed: { status: 403, fault: 'operator', retryable: false },
  run_not_open: { status: 409, fault: 'caller', retryable: false },
  call_exists: { status: 409, fault: 'caller', retryable: false },
  call_id_reused: { status: 409, fault: 'caller', retryable: false },
  conflict: { status: 409, fault: 'caller', retryable: false },
  outcome_unknown: { status: 409, fault: 'operator', retryable: false },
  too_many_calls: { status: 429, fault: 'caller', retryable: true },
  rate_limited: { status: 429, fault: 'caller', retryable: true },
  queue_full: { status: 429, fault: 'operator', retryable: true },
  request_timeout: { status: 408, fault: 'caller', retryable: true },
  payload_too_large: { status: 413, fault: 'caller', retryable: false },
  headers_too_large: { status: 431, fault: 'caller', retryable: false },
  unsupported_media_type: { status: 415, fault: 'caller', retryable: false },
  import_refused: { status: 422, fault: 'caller', retryable: false },
  input_refused: { status: 422, fault: 'operator', retryable: false },
  export_refused: { status: 422, fault: 'sandbox', retryable: false },
  promotion_denied: { status: 403, fault: 'caller', retryable: false },
  target_refused: { status: 422, fault: 'caller', retryable: false },
  archive_refused: { status: 422, fault: 'caller', retryable: false },
  bundle_refused: { status: 422, fault: 'caller', retryable: false },
  limit_exceeded: { status: 413, fault: 'caller', retryable: false },
  policy_unenforceable: { status: 422, fault: 'operator', retryable: false },
  credential_unavailable: { status: 502, fault: 'operator', retryable: true },
  isolation_unproven: { status: 500, fault: 'operator', retryable: false },
  sandbox_lost: { status: 502, fault: 'sandbox', retryable: true },
  protocol_error: { status: 502, fault: 'sandbox', retryable: false },
  engine_unavailable: { status: 503, fault: 'operator', retryable: true },
  engine_timeout: { status: 504, fault: 'operator', retryable: true },
  engine_failed: { status: 502, fault: 'operator', retryable: true },
  supervisor_missing: { status: 500, fault: 'operator', retryable: false },
  journal_unavailable: { status: 500, fault: 'operator', retryable: false },
  journal_broken: { status: 422, fault: 'operator', retryable: false },
  data_dir_unusable: { status: 500, fault: 'operator', retryable: false },
  insufficient_storage: { status: 507, fault: 'operator', retryable: true },
  data_dir_in_use: { status: 409, fault: 'operator', retryable: false },
  service_unavailable: { status: 503, fault: 'operator', retryable: true },
  draining: { status: 503, fault: 'operator', retryable: true },
  invalid_config: { status: 500, fault: 'operator', retryable: false },
  internal: { status: 500, fault: 'operator', retryable: false },
} as const satisfies Record<string, { status: number; fault: 'caller' | 'operator' | 'sandbox'; retryable: boolean }>;

export type ErrorCode = keyof typeof errorTable;

/** What the caller asked wrongly, or what we broke. The message says what was tried, on what, and what to do next. */
export class RunnerError extends Error {
  override readonly name = 'RunnerError';
  readonly code: ErrorCode;
  /** When it is worth asking again; only with codes that are retryable. */
  readonly retryAfterMs: number | undefined;
  /** Of the request that a service refused: its log has a line with the same id. */
  readonly requestId: string | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options?: { cause?: unknown; retryAfterMs?: number | undefined; requestId?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.retryAfterMs = options?.retryAfterMs;
    this.requestId = options?.requestId;
  }

  get status(): number {
    return errorTable[this.code].status;
  }

  get retryable(): boolean {
    return errorTable[this.code].retryable;
  }
}

export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(errorTable, code);
}

export function isRunnerError(error: unknown, code?: ErrorCode): error is RunnerError {
  return error instanceof RunnerError && (code === undefined || error.code === code);
}

/** The message of anything thrown, without its stack. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
