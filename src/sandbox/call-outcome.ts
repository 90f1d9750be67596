import type { ExitRecord } from './arrivals.ts';
import type { CallTerms } from './exec-spec.ts';
import type { Outcome } from './outcome.ts';

/** What of the sandbox's limits an outcome names. */
export interface OutcomeLimits {
  readonly memoryBytes: number;
  readonly pidsMax: number;
}

/**
 * What EXIT means. The order is the rule: what was done to the command from outside comes before what it did itself, and a
 * command that succeeded has succeeded, whatever happened on its way.
 */
export function outcomeOf(exit: ExitRecord, terms: CallTerms, limits: OutcomeLimits, keptBytes: number): Outcome {
  switch (exit.cause) {
    case 'timed_out':
      return { kind: 'timed_out', afterMs: terms.killAfterMs };
    case 'idle':
      return { kind: 'idle_timed_out', afterMs: terms.idleMs };
    case 'cancelled':
      return { kind: 'cancelled' };
    case 'output_limit':
      return { kind: 'output_limit', limitBytes: keptBytes };
    case 'orphaned':
      return { kind: 'sandbox_lost', reason: 'the sandbox ended itself because its runner was silent for too long' };
    case 'none':
      return exit.kind === 'not_started' ? notStarted(exit, terms) : ended(exit, limits);
  }
}

function ended(exit: ExitRecord, limits: OutcomeLimits): Outcome {
  const code = exit.kind === 'signaled' ? 128 + exit.code : exit.code;
  if (code === 0) return { kind: 'exited', code: 0 };
  // Before memory: what runs out of it at the limit of its processes does so because they are many, and less of them
  // helps with both. Without that limit reached it was memory.
  if ((exit.pidsHits ?? 0) > 0) return { kind: 'pids_limit', limit: limits.pidsMax, code };
  if ((exit.oomKills ?? 0) > 0) return { kind: 'out_of_memory', limitBytes: limits.memoryBytes, code };
  const where = [
    ...(exit.full.workspace ? ['/workspace'] : []),
    ...(exit.full.tmp ? ['/tmp'] : []),
    ...(exit.full.home ? ['/home/agent'] : []),
  ];
  if (where.length > 0) return { kind: 'disk_full', where, code };
  return exit.kind === 'signaled' ? { kind: 'signaled', signal: exit.code } : { kind: 'exited', code };
}

const errno = { ENOENT: 2, E2BIG: 7, ENOEXEC: 8, EAGAIN: 11, ENOMEM: 12, EACCES: 13, ENOTDIR: 20, EMFILE: 24 } as const;

function notStarted(exit: ExitRecord, terms: CallTerms): Outcome {
  const { code, stage } = exit;
  const program = JSON.stringify(terms.command);
  if (stage === 'cwd') {
    const why =
      code === errno.ENOENT ? 'does not exist' : code === errno.ENOTDIR ? 'is not a directory' : `errno ${code}`;
    return {
      kind: 'not_started',
      reason: 'bad_cwd',
      message: `the working directory ${JSON.stringify(terms.cwd)} ${why}`,
    };
  }
  if (code === errno.E2BIG)
    return {
      kind: 'not_started',
      reason: 'too_big',
      message: `the arguments and environment of ${program} are too long for the kernel`,
    };
  if (stage !== 'exec' || code === errno.ENOMEM || code === errno.EAGAIN || code === errno.EMFILE)
    return {
      kind: 'not_started',
      reason: 'no_resources',
      message: `the sandbox could not start ${program}: errno ${code}`,
    };
  if (code === errno.ENOENT || code === errno.ENOTDIR)
    return {
      kind: 'not_started',
      reason: 'not_found',
      message: `${program}: command not found (or its interpreter is not there)`,
    };
  const why = code === errno.EACCES ? 'permission denied' : code === errno.ENOEXEC ? 'not a program' : `errno ${code}`;
  return { kind: 'not_started', reason: 'not_executable', message: `${program}: cannot be executed, ${why}` };
}
