/** How a call's command ended. A union, because "exit 137" has four different reasons and one is never guessed for another. */
export type Outcome =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'signaled'; readonly signal: number }
  | {
      readonly kind: 'not_started';
      readonly reason: 'not_found' | 'not_executable' | 'bad_cwd' | 'too_big' | 'no_resources';
      readonly message: string;
    }
  | { readonly kind: 'timed_out'; readonly afterMs: number }
  | { readonly kind: 'idle_timed_out'; readonly afterMs: number }
  | { readonly kind: 'cancelled' }
  | { readonly kind: 'output_limit'; readonly limitBytes: number }
  | { readonly kind: 'out_of_memory'; readonly limitBytes: number; readonly code: number }
  | { readonly kind: 'pids_limit'; readonly limit: number; readonly code: number }
  | { readonly kind: 'disk_full'; readonly where: readonly string[]; readonly code: number }
  | { readonly kind: 'denied'; readonly rule: string; readonly reason: string }
  | { readonly kind: 'sandbox_lost'; readonly reason: string };

/** The exit code people expect from a shell: 124 timed out, 125 ours, 126 not executable, 127 not found, 128+n signals. */
export function exitCodeOf(outcome: Outcome): number {
  switch (outcome.kind) {
    case 'exited':
      return outcome.code;
    case 'signaled':
      return 128 + outcome.signal;
    case 'not_started':
      return outcome.reason === 'not_found' ? 127 : outcome.reason === 'not_executable' ? 126 : 125;
    case 'timed_out':
    case 'idle_timed_out':
      return 124;
    case 'cancelled':
      return 130;
    case 'out_of_memory':
      return 137;
    case 'pids_limit':
    case 'disk_full':
      return outcome.code === 0 ? 1 : outcome.code;
    case 'output_limit':
    case 'denied':
    case 'sandbox_lost':
      return 125;
  }
}
