import { messageOf, RunnerError } from '../errors.ts';

/** Why a sandbox cannot be used any more; `run_not_open` after it was closed, or handed over. */
export interface SandboxLoss {
  readonly code: 'sandbox_lost' | 'protocol_error' | 'isolation_unproven' | 'run_not_open';
  readonly reason: string;
}

export function asLoss(error: unknown): RunnerError {
  return error instanceof RunnerError ? error : new RunnerError('sandbox_lost', messageOf(error));
}
