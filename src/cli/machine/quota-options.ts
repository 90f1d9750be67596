import type { Command } from 'commander';
import { RunnerError } from '../../errors.ts';
import { duration, size } from '../../policy/language/units.ts';
import { standardQuota, type Quota } from '../../store/key-row.ts';
import { wholeNumber } from '../numbers.ts';

export interface QuotaOptions {
  readonly openRuns?: number;
  readonly callsPerMinute?: number;
  readonly cpus?: string;
  readonly disk?: string;
}

export function addQuotaOptions(command: Command): Command {
  return command
    .option('--open-runs <n>', `runs open at once (default ${standardQuota.openRuns})`, wholeNumber(0))
    .option('--calls-per-minute <n>', `calls a minute (default ${standardQuota.callsPerMinute})`, wholeNumber(0))
    .option('--cpus <n>', `processors of its open runs together (default ${standardQuota.cpuMillis / 1000})`)
    .option(
      '--disk <size>',
      `workspaces of its open runs together (default ${standardQuota.diskBytes / 1024 ** 3}GiB)`,
    );
}

export function quotaOf(options: QuotaOptions, rest: Quota = standardQuota): Quota {
  return {
    openRuns: options.openRuns ?? rest.openRuns,
    callsPerMinute: options.callsPerMinute ?? rest.callsPerMinute,
    cpuMillis: options.cpus === undefined ? rest.cpuMillis : cpuMillisOf(options.cpus),
    diskBytes:
      options.disk === undefined
        ? rest.diskBytes
        : parsed('--disk', size({ min: '0B', max: '1048576GiB' }), options.disk),
  };
}

export function quotaText({ openRuns, callsPerMinute, cpuMillis, diskBytes }: Quota): string {
  return `${openRuns} runs, ${callsPerMinute} calls/min, ${cpuMillis / 1000} cpus, ${Math.round((diskBytes / 1024 ** 3) * 100) / 100} GiB`;
}

/** Milliseconds; undefined for `never`. */
export function expiryOf(text: string): number | undefined {
  return text === 'never' ? undefined : parsed('--expires', duration({ min: '1m', max: '3650d' }), text);
}

function cpuMillisOf(text: string): number {
  const cpus = Number(text);
  if (/^\d{1,5}(\.\d{1,3})?$/.test(text)) return Math.round(cpus * 1000);
  throw new RunnerError('invalid_request', `--cpus ${text}: give a number of processors, such as 4 or 0.5`);
}

function parsed(option: string, schema: ReturnType<typeof size>, text: string): number {
  const found = schema.safeParse(text);
  if (found.success) return found.data;
  throw new RunnerError('invalid_request', `${option}: ${found.error.issues.map(({ message }) => message).join('; ')}`);
}
