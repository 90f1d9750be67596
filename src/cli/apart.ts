import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { isatty } from 'node:tty';

const mark = 'GLOVEBOX_APART';

/**
 * A client gives its server a second or two to end, then kills it with all its group; a run may take longer to close, and its diff would
 * be lost. So the work is done by a process in a session of its own, on the same three streams, and what the client started only
 * stands in for it. Resolves with the exit code where this is the process that stands in, undefined where it is the one that works.
 */
export async function standIn(): Promise<number | undefined> {
  if (process.env[mark] !== undefined) {
    leaveWithStandIn();
    return undefined;
  }
  if (isatty(0)) return undefined; // a person, who waits; and a terminal is read in its own session alone
  const [program, ...args] = [...process.execArgv, ...process.argv.slice(1)];
  const worker = spawn(process.execPath, [program ?? '', ...args], {
    detached: true,
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, [mark]: '1' },
  });
  const [code, signal] = (await once(worker, 'exit')) as [number | null, NodeJS.Signals | null];
  return code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
}

/** Nobody stands in any more, however that one ended: the client has gone, and what it still sends is not read. */
function leaveWithStandIn(): void {
  if (process.channel === undefined || process.channel === null) return;
  process.once('disconnect', () => process.stdin.destroy());
  process.channel.unref();
}
