import { readFileSync, readlinkSync } from 'node:fs';
import { RunnerError } from './errors.ts';

/**
 * Which process, for ever: a pid alone is given out again, and starts over at a reboot. The start time (ticks since
 * boot) tells two bearers of one pid apart, the boot id two boots, the namespace two containers on one disk.
 */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTicks: string;
  readonly bootId: string;
  readonly pidNamespace: string;
}

export function thisProcess(): ProcessIdentity {
  const stat = readStat(process.pid);
  if (stat === undefined) {
    throw new RunnerError('internal', 'cannot read /proc/self/stat: the runner needs Linux with /proc mounted');
  }
  return {
    pid: process.pid,
    startTicks: stat.startTicks,
    bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim(),
    pidNamespace: /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '',
  };
}

/** When in doubt, alive: nothing of a process may be taken away from it because we cannot see it. */
export function isProcessAlive(identity: ProcessIdentity, self: ProcessIdentity = thisProcess()): boolean {
  if (identity.bootId !== self.bootId) return false;
  if (identity.pidNamespace !== self.pidNamespace) return true;
  const stat = readStat(identity.pid);
  return stat !== undefined && stat.startTicks === identity.startTicks && !/[ZXx]/.test(stat.state);
}

/** proc(5): fields 3 and 22. The name in field 2 may hold anything, so count from the last parenthesis. */
function readStat(pid: number): { state: string; startTicks: string } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw new RunnerError('internal', `cannot read /proc/${pid}/stat to see who is alive`, { cause: error });
  }
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', startTicks: fields[19] ?? '' };
}
