import { z } from 'zod';
import { Bytes, CallIdField, maxBytesField, PathField, SignalField } from './fields.ts';

const yieldMs = z
  .int()
  .min(0)
  .max(300_000)
  .default(10_000)
  .describe('Reply after this long with what there is, state "running"; the command goes on. Default 10,000.');

const maxReplyBytes = z
  .int()
  .min(256)
  .max(1_048_576)
  .default(30_000)
  .describe('Longest output in the reply: beyond it the first and last half, and an exact elision line between.');

const variableName = z
  .string()
  .min(1)
  .max(255)
  .regex(/^[^=\0]+$/, 'a name without "=" and NUL');

export const ExecCall = z
  .strictObject({
    tool: z.literal('exec').describe('Runs a command.'),
    script: z.string().min(1).max(8_000_000).optional().describe('Shell script, up to 8 MB. Either this or argv.'),
    argv: z
      .tuple([z.string().min(1)], z.string())
      .optional()
      .describe('Program and arguments, no shell. Either this or script.'),
    shell: z
      .enum(['bash', 'sh'])
      .optional()
      .describe('Which shell runs the script. Default: bash where the image has it, else sh.'),
    cwd: PathField.optional().describe('Working directory. Default: the workspace, or where the session stands.'),
    env: z
      .record(variableName, z.string().max(131_000))
      .optional()
      .describe('Environment variables of this call, on top of the clean default ones.'),
    stdin: Bytes.optional().describe('Standard input, then end of file. Default: reads as empty.'),
    keepStdinOpen: z
      .boolean()
      .default(false)
      .describe('Standard input stays open for exec_write, after the bytes of stdin.'),
    tty: z
      .strictObject({
        columns: z.int().min(1).max(1000).default(120).describe('Width in characters.'),
        rows: z.int().min(1).max(1000).default(40).describe('Height in lines.'),
      })
      .optional()
      .describe('A terminal of this size instead of pipes; its input stays open.'),
    yieldMs,
    killAfterMs: z
      .int()
      .min(1)
      .max(86_400_000)
      .default(120_000)
      .describe('The command and its whole process tree are ended after this long. Default 120,000.'),
    idleMs: z
      .int()
      .min(1)
      .max(86_400_000)
      .optional()
      .describe('... or after this long without output. Default: never.'),
    maxReplyBytes,
    descendants: z
      .enum(['reap', 'keep'])
      .default('reap')
      .describe('Processes that outlive the command: end them, or keep them until the sandbox ends.'),
    session: z
      .string()
      .regex(/^[A-Za-z0-9_-]{1,64}$/)
      .optional()
      .describe(
        'Name of a shell session: working directory, exported variables and umask carry over to its next call.',
      ),
    streams: z.enum(['merged', 'split']).default('merged').describe('stdout and stderr as one ordered text, or apart.'),
  })
  .refine((call) => (call.script === undefined) !== (call.argv === undefined), 'exec takes either script or argv')
  .refine((call) => call.session === undefined || call.script !== undefined, 'a session runs scripts, not argv')
  .refine((call) => call.shell === undefined || call.script !== undefined, 'shell goes with script')
  .refine((call) => call.tty === undefined || call.streams === 'merged', 'a terminal has one stream: merged');
export type ExecCall = z.infer<typeof ExecCall>;

export const ExecPollCall = z.strictObject({
  tool: z.literal('exec_poll').describe('Waits for a command that was still running, and returns its output.'),
  callId: CallIdField,
  yieldMs,
  fromOffset: z
    .int()
    .min(0)
    .default(0)
    .describe('Output from this offset of the merged view; pass nextOffset of the last reply to see only what is new.'),
  maxReplyBytes,
});
export type ExecPollCall = z.infer<typeof ExecPollCall>;

export const ExecWriteCall = z.strictObject({
  tool: z.literal('exec_write').describe('Writes to the standard input of a running command.'),
  callId: CallIdField,
  data: Bytes.optional().describe('What to write. Default: nothing.'),
  close: z.boolean().default(false).describe('End of file after the data.'),
});
export type ExecWriteCall = z.infer<typeof ExecWriteCall>;

export const ExecSignalCall = z.strictObject({
  tool: z.literal('exec_signal').describe('Sends a signal, such as INT for Ctrl-C.'),
  callId: CallIdField,
  signal: SignalField,
  target: z
    .enum(['foreground', 'all'])
    .default('foreground')
    .describe("The command's process group (a terminal's foreground group), or every process of the call."),
});
export type ExecSignalCall = z.infer<typeof ExecSignalCall>;

export const ExecKillCall = z.strictObject({
  tool: z.literal('exec_kill').describe('Ends a command with its whole process tree; its output stays readable.'),
  callId: CallIdField,
});
export type ExecKillCall = z.infer<typeof ExecKillCall>;

export const ExecResizeCall = z.strictObject({
  tool: z.literal('exec_resize').describe('Changes the size of the terminal of a call.'),
  callId: CallIdField,
  columns: z.int().min(1).max(1000).describe('Width in characters.'),
  rows: z.int().min(1).max(1000).describe('Height in lines.'),
});
export type ExecResizeCall = z.infer<typeof ExecResizeCall>;

export const ExecListCall = z.strictObject({
  tool: z.literal('exec_list').describe('Lists the exec calls that run, or have ended and can still be read.'),
});
export type ExecListCall = z.infer<typeof ExecListCall>;

export const OutputCall = z.strictObject({
  tool: z.literal('output').describe('Reads the kept output of a call, running or ended.'),
  callId: CallIdField,
  offset: z.int().min(0).default(0).describe('First byte, counted in the chosen stream.'),
  maxBytes: maxBytesField(30_000, 8_388_608),
  stream: z
    .enum(['merged', 'stdout', 'stderr'])
    .default('merged')
    .describe('Which view. Offsets of one view mean nothing in another.'),
});
export type OutputCall = z.infer<typeof OutputCall>;

export const SessionResetCall = z.strictObject({
  tool: z.literal('session_reset').describe('Forgets the carried state of a shell session.'),
  session: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/)
    .describe('Name of the session.'),
});
export type SessionResetCall = z.infer<typeof SessionResetCall>;
