import type { ErrorCode } from '../errors.ts';
import type { EntryOutcome } from '../journal/entry.ts';
import type { Failure } from './failure.ts';

/** Why one thing did not come out, before anybody says where that was and what shows it. */
export type Cause = Pick<Failure, 'class' | 'attribution' | 'retryable'>;

/**
 * How a command ended, as a cause; undefined of what is no failure. What it ran out of, and what it was refused, goes before
 * what it says of itself: a test that fails in a full sandbox says nothing of the code.
 */
export function causeOfOutcome(outcome: EntryOutcome): Cause | undefined {
  switch (outcome.kind) {
    case 'done':
    case 'failed':
    case 'cancelled':
      return undefined;
    case 'exited':
      return causeOfExit(outcome.code);
    case 'signaled':
      return { class: 'semantic_defect', attribution: 'agent', retryable: false };
    case 'not_started':
      return notStarted[outcome.reason];
    case 'timed_out':
    case 'idle_timed_out':
      return { class: 'tool_timeout', attribution: 'agent', retryable: true };
    case 'output_limit':
    case 'out_of_memory':
    case 'pids_limit':
    case 'disk_full':
      return { class: 'budget', attribution: 'agent', retryable: false };
    case 'denied':
      return causeOfDenial(outcome.rule);
    case 'sandbox_lost':
    case 'unknown':
      return { class: 'infrastructure', attribution: 'infrastructure', retryable: true };
  }
}

/** Of a call that was not let in, by the rule that says so. */
export function causeOfDenial(rule: string): Cause {
  if (rule.startsWith('gate.')) return { class: 'infrastructure', attribution: 'infrastructure', retryable: true };
  if (rule.startsWith('approvals.')) return { class: 'approval', attribution: 'policy', retryable: true };
  if (rule.startsWith('budget.') || rule.startsWith('limits.'))
    return { class: 'budget', attribution: 'agent', retryable: false };
  return { class: 'policy', attribution: 'agent', retryable: false };
}

export function causeOfCode(code: ErrorCode): Cause {
  return codes[code];
}

/** As shells have it: 126 is there and may not be run, 127 is not there. */
function causeOfExit(code: number): Cause | undefined {
  if (code === 0) return undefined;
  if (code === 126) return { class: 'permission_mismatch', attribution: 'environment', retryable: false };
  if (code === 127) return { class: 'environment_mismatch', attribution: 'environment', retryable: false };
  return { class: 'semantic_defect', attribution: 'agent', retryable: false };
}

const environment: Cause = { class: 'environment_mismatch', attribution: 'environment', retryable: false };
const asked: Cause = { class: 'semantic_defect', attribution: 'agent', retryable: false };
const ours: Cause = { class: 'infrastructure', attribution: 'infrastructure', retryable: false };
const passing: Cause = { ...ours, retryable: true };
const many: Cause = { class: 'rate_limit', attribution: 'agent', retryable: true };
const permission: Cause = { class: 'permission_mismatch', attribution: 'policy', retryable: false };
const constraint: Cause = { class: 'constraint_violation', attribution: 'agent', retryable: false };

const notStarted: Readonly<Record<Extract<EntryOutcome, { kind: 'not_started' }>['reason'], Cause>> = {
  not_found: environment,
  not_executable: { ...permission, attribution: 'environment' },
  bad_cwd: asked,
  too_big: constraint,
  no_resources: passing,
};

/** Exhaustive: a code that is new has to say what it is. */
const codes: Readonly<Record<ErrorCode, Cause>> = {
  invalid_request: asked,
  invalid_policy: { class: 'policy', attribution: 'policy', retryable: false },
  invalid_path: asked,
  unauthenticated: permission,
  forbidden: permission,
  method_not_allowed: asked,
  not_found: asked,
  policy_denied: { class: 'policy', attribution: 'agent', retryable: false },
  budget_exhausted: { class: 'budget', attribution: 'agent', retryable: false },
  run_not_found: asked,
  call_not_found: asked,
  image_not_found: environment,
  image_not_allowed: { class: 'policy', attribution: 'policy', retryable: false },
  run_not_open: asked,
  call_exists: asked,
  call_id_reused: asked,
  conflict: asked,
  outcome_unknown: ours,
  too_many_calls: many,
  rate_limited: many,
  queue_full: { ...many, attribution: 'infrastructure' },
  request_timeout: passing,
  insufficient_storage: { class: 'budget', attribution: 'infrastructure', retryable: true },
  payload_too_large: constraint,
  headers_too_large: constraint,
  unsupported_media_type: asked,
  import_refused: constraint,
  input_refused: environment,
  export_refused: constraint,
  archive_refused: constraint,
  bundle_refused: constraint,
  promotion_denied: { class: 'approval', attribution: 'policy', retryable: false },
  target_refused: { class: 'partial_promotion', attribution: 'environment', retryable: false },
  limit_exceeded: { class: 'budget', attribution: 'agent', retryable: false },
  policy_unenforceable: environment,
  credential_unavailable: { class: 'permission_mismatch', attribution: 'environment', retryable: true },
  isolation_unproven: ours,
  sandbox_lost: passing,
  protocol_error: ours,
  engine_unavailable: passing,
  engine_timeout: passing,
  engine_failed: passing,
  supervisor_missing: ours,
  journal_unavailable: ours,
  journal_broken: ours,
  data_dir_unusable: ours,
  data_dir_in_use: ours,
  service_unavailable: passing,
  draining: passing,
  invalid_config: environment,
  internal: ours,
};
