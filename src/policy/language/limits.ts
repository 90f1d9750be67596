import { z } from 'zod';
import { duration, durationOrNone, size } from './units.ts';
import { field, ownName } from './fields.ts';

export const Limits = z.strictObject({
  memory: field(size({ min: '32MiB', max: '4096GiB' }), 'Memory of all processes together, no swap.', '2GiB'),
  cpus: field(z.number().min(0.1).max(1024), 'Processors; 1.5 is one and a half.', 2),
  pids: field(z.int().min(16).max(100_000), 'Processes and threads at one time.', 256),
  open_files: field(z.int().min(64).max(1_048_576), 'Open files of one process.', 1024),
  workspace: field(
    size({ min: '1MiB', max: '4096GiB' }),
    'Size of the workspace. What is written in memory counts into `memory` as well.',
    '1GiB',
  ),
  workspace_files: field(z.int().min(64).max(50_000_000), 'Files and directories in the workspace.', 200_000),
  tmp: field(size({ min: '1MiB', max: '1024GiB' }), 'Size of /tmp, and of the home directory. In memory.', '256MiB'),
  wall_clock: field(
    duration({ min: '1s', max: '30d' }),
    'From the opening of a run; after it no further call is let in.',
    '30m',
  ),
  command_timeout: field(
    duration({ min: '100ms', max: '24h' }),
    'Longest time of one command; a call may ask for less, not for more.',
    '10m',
  ),
  idle_timeout: field(
    durationOrNone({ min: '1s', max: '24h' }),
    'A command that prints nothing for so long is ended.',
    'none',
  ),
  output_per_call: field(
    size({ min: '1KiB', max: '64GiB' }),
    'A command that has printed more is ended (`output_limit`).',
    '16MiB',
  ),
  reply_bytes: field(
    size({ min: '256B', max: '1MiB' }),
    'Longest output in one reply; the rest is kept and can be read.',
    '30000B',
  ),
  output_per_run: field(size({ min: '1KiB', max: '1024GiB' }), 'Output of all calls together.', '256MiB'),
});
export type Limits = z.infer<typeof Limits>;

const count = (min: number, max = 100_000) => z.int().min(min).max(max);
const none = z.literal('none').transform(() => 0);
const countOrNone = z.union([none, count(1, 1_000_000_000)], { error: 'write a whole number, or none' });

export const Budget = z.strictObject({
  max_actions_per_run: field(count(1), 'Tool calls of a run, counted when they are let in.', 50),
  max_actions_by_tag: field(
    z.record(ownName, count(0)).readonly(),
    'Tool calls that carry this tag (of a command rule).',
    {},
  ),
  max_denied_actions: field(count(0), 'Denied calls that are borne; with one more, no further call is let in.', 8),
  max_consecutive_denials: field(
    countOrNone,
    'Denied calls in a row that are borne; with one more, no further call is let in.',
    'none',
  ),
  max_approval_requests: field(count(0), 'Approvals that a run may ask for.', 5),
  max_parallel_actions: field(count(1, 64), 'Calls at one time.', 4),
  max_actions_per_minute: field(countOrNone, 'Calls that are let in within any minute.', 'none'),
  cpu_seconds: field(countOrNone, 'Processor time of all commands together.', 'none'),
  diff_files: field(countOrNone, 'Changed files of the diff; a larger one is not exported.', 'none'),
  diff_lines: field(countOrNone, 'Added and removed lines of the diff; a larger one is not exported.', 'none'),
  diff_binary: field(
    z.union([none, size({ min: '1B', max: '1024GiB' })], {
      error: 'write a size with its unit, such as 256KiB, or none',
    }),
    'Bytes of changed binary files; a larger diff is not exported.',
    'none',
  ),
});
export type Budget = z.infer<typeof Budget>;
