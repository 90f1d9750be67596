import { z } from 'zod';
import type { Outcome } from '../sandbox/outcome.ts';

/** Bytes that came out of a sandbox: always as text to look at, and exactly where the text could not be. */
export const BytesView = z.strictObject({
  text: z.string().describe('The bytes as UTF-8; anything invalid shows as U+FFFD.'),
  utf8: z.boolean().describe('The text is exact.'),
  base64: z.string().nullable().describe('The exact bytes, where the text is not; otherwise null.'),
  bytes: z.int().describe('How many bytes these are.'),
});
export type BytesView = z.infer<typeof BytesView>;

/** Output of a call: its first and last part where it is too long for a reply. */
export const OutputReply = z.strictObject({
  text: z.string().describe('What to show: head, an exact elision line, tail.'),
  head: BytesView.describe('From fromOffset on.'),
  tail: BytesView.nullable().describe('The end, where something was left out between; otherwise null.'),
  fromOffset: z.int().describe('First byte of the head, counted in this stream.'),
  omittedBytes: z.int().describe('Left out between head and tail; 0 = nothing.'),
  omittedOffset: z.int().nullable().describe('First byte left out, for output(callId, offset); null = nothing was.'),
  totalBytes: z.int().describe('Bytes of this stream so far.'),
});
export type OutputReply = z.infer<typeof OutputReply>;

export const EgressDenied = z.strictObject({
  host: z.string(),
  port: z.int().nullable().describe('null: its name was asked for, and there is none.'),
  method: z.string().nullable(),
  path: z.string().nullable().describe('Without the query.'),
  rule: z.string().nullable().describe('Id of the rule that refused it.'),
  reason: z.string(),
  hint: z.string().describe('What would allow it.'),
  count: z.int().describe('How often.'),
  certain: z.boolean().describe('false: other calls ran at the time, and it may have been one of theirs.'),
});
export type EgressDenied = z.infer<typeof EgressDenied>;

export const ExecData = z.strictObject({
  kind: z.literal('exec'),
  state: z.enum(['running', 'ended']).describe('"running": exec_poll waits for the rest.'),
  outcome: z.custom<Outcome>().nullable().describe('How it ended; null while it runs.'),
  exitCode: z
    .int()
    .nullable()
    .describe(
      'As a shell would say it: 124 timed out, 128+n signals; null while it runs, and when the sandbox was lost.',
    ),
  output: OutputReply.nullable().describe('stdout and stderr in order; null where they were asked for apart.'),
  stdout: OutputReply.nullable(),
  stderr: OutputReply.nullable(),
  nextOffset: z.int().describe('Where the merged view goes on, for exec_poll.'),
  totalBytes: z.strictObject({ merged: z.int(), stdout: z.int(), stderr: z.int() }),
  wallMs: z.number().nullable(),
  cpuMs: z.number().nullable(),
  maxRssBytes: z.number().nullable(),
  descendantsAlive: z.int().nullable().describe('Processes that were alive when the command had ended.'),
  killed: z.int().nullable().describe('Processes that had to be killed.'),
  egressDenied: z
    .array(EgressDenied)
    .describe('What it was refused on the network so far, at most 20 different things.'),
  session: z
    .strictObject({
      name: z.string(),
      saved: z.boolean().describe('The next call starts where this one ended; otherwise where this one started.'),
      reason: z.string().nullable().describe('Why it was not saved.'),
      cwd: z.string().nullable().describe('Where the next call starts.'),
    })
    .nullable(),
});
export type ExecData = z.infer<typeof ExecData>;

export const EntryData = z.strictObject({
  path: z.string(),
  type: z.enum(['file', 'directory', 'symlink', 'fifo', 'socket', 'device']),
  mode: z.int(),
  uid: z.int(),
  gid: z.int(),
  sizeBytes: z.int(),
  mtimeMs: z.number(),
  target: z.string().nullable().describe('Of a symbolic link.'),
  digest: z.string().nullable(),
});
export type EntryData = z.infer<typeof EntryData>;

export const PatchedFile = z.strictObject({
  path: z.string(),
  action: z.enum(['added', 'updated', 'deleted', 'moved', 'mode']),
  movedFrom: z.string().nullable(),
  hunks: z.array(
    z.strictObject({
      line: z.int().describe('First line of the old file that the hunk touched.'),
      offset: z.int().describe('How many lines away from where the patch said.'),
      strategy: z
        .enum(['exact', 'trailing_space', 'trimmed', 'unicode'])
        .describe('What had to be overlooked for the context to match.'),
    }),
  ),
  added: z.int().describe('Lines.'),
  removed: z.int().describe('Lines.'),
  digest: z.string().nullable().describe('Of the new content; null when deleted.'),
});
export type PatchedFile = z.infer<typeof PatchedFile>;

export const GrepMatch = z.strictObject({
  path: z.string(),
  line: z.int(),
  text: z.string().describe('The line, clipped when long.'),
  match: z.boolean().describe('false: a line of context.'),
});
export type GrepMatch = z.infer<typeof GrepMatch>;

const CallState = z.strictObject({
  callId: z.string(),
  state: z.enum(['running', 'ended']),
  exitCode: z.int().nullable(),
  totalBytes: z.int(),
});

export const ToolData = z.discriminatedUnion('kind', [
  ExecData,
  z.strictObject({ kind: z.literal('calls'), calls: z.array(CallState) }),
  z.strictObject({
    kind: z.literal('output'),
    content: BytesView,
    offset: z.int(),
    nextOffset: z.int(),
    totalBytes: z.int(),
    ended: z.boolean().describe('Nothing more will come, and nextOffset is the end.'),
  }),
  z.strictObject({ kind: z.literal('entry'), entry: EntryData }),
  z.strictObject({
    kind: z.literal('content'),
    entry: EntryData,
    content: BytesView,
    offset: z.int().describe('Of the first byte.'),
    firstLine: z.int().nullable().describe('Where lines were asked for.'),
    lastLine: z.int().nullable(),
    truncated: z.boolean().describe('maxBytes left something of the asked range out.'),
  }),
  z.strictObject({ kind: z.literal('edited'), path: z.string(), lines: z.array(z.int()), digest: z.string() }),
  z.strictObject({
    kind: z.literal('patched'),
    format: z.enum(['unified', 'v4a']),
    dryRun: z.boolean(),
    files: z.array(PatchedFile),
  }),
  z.strictObject({
    kind: z.literal('entries'),
    entries: z.array(EntryData),
    unreadable: z.array(z.string()),
    truncated: z.boolean(),
  }),
  z.strictObject({
    kind: z.literal('matches'),
    matches: z.array(GrepMatch),
    matchCount: z.int(),
    filesSearched: z.int(),
    filesMatched: z.int(),
    binarySkipped: z.int(),
    largeSkipped: z.int(),
    unreadable: z.int(),
    truncated: z.boolean(),
  }),
  z.strictObject({
    kind: z.literal('archive'),
    base64: z.string(),
    entries: z.int(),
    bytes: z.int(),
    skipped: z.array(z.string()).describe('Sockets, FIFOs and devices, which an archive of ours does not hold.'),
  }),
  z.strictObject({ kind: z.literal('unpacked'), entries: z.int(), bytes: z.int() }),
  z.strictObject({ kind: z.literal('done') }),
]);
export type ToolData = z.infer<typeof ToolData>;

/** Codes of `error`: what an agent can act on. Faults of the runner are `RunnerError`s, never results. */
const toolErrorCodes = [
  'waiting_for_approval',
  'not_found',
  'permission_denied',
  'is_directory',
  'not_directory',
  'exists',
  'not_empty',
  'too_large',
  'read_only',
  'no_space',
  'conflict',
  'invalid_path',
  'not_regular',
  'too_many_links',
  'io',
  'not_text',
  'no_match',
  'count_mismatch',
  'invalid_pattern',
  'invalid_patch',
  'patch_mismatch',
  'denied',
] as const;
export type ToolErrorCode = (typeof toolErrorCodes)[number];

/** The same keys whatever happened. */
export const ToolResult = z.strictObject({
  callId: z.string(),
  tool: z.string(),
  ok: z.boolean().describe('Done as asked: no error, and a command that has ended did so with exit code 0.'),
  text: z.string().describe('What to show to a model.'),
  data: ToolData.nullable().describe('null where there is an error.'),
  error: z.strictObject({ code: z.enum(toolErrorCodes), message: z.string(), path: z.string().nullable() }).nullable(),
});
export type ToolResult = z.infer<typeof ToolResult>;

/** A tool's own refusal: an answer for the agent. */
export class ToolError extends Error {
  override readonly name = 'ToolError';
  readonly code: ToolErrorCode;
  readonly path: string | undefined;
  constructor(code: ToolErrorCode, message: string, path?: string) {
    super(message);
    this.code = code;
    this.path = path;
  }
}
