import { constants } from 'node:os';
import { Deadline } from '../deadline.ts';
import { exitCodeOf } from '../sandbox/outcome.ts';
import type { CallEnd, ExecSpec, StdinSpec } from '../sandbox/spec.ts';
import type * as calls from './calls/exec-calls.ts';
import { bytesOf } from './calls/fields.ts';
import { viewLong, wholeCharacters } from './bytes-view.ts';
import { replyOutput } from './output-reply.ts';
import { closeScript } from './shell-state.ts';
import type { ToolContext } from './tool-context.ts';
import type { StartedCall } from './started-call.ts';
import type { ExecData, ToolData } from './tool-result.ts';

const writeMaxMs = 30_000;

/** Starts a command once, and replies when it has ended or after `yieldMs` with what there is. */
export async function exec(context: ToolContext, callId: string, call: calls.ExecCall): Promise<ExecData> {
  const spec = await specOf(context, call);
  const started = await context.start(callId, spec);
  if (call.session !== undefined) {
    const { tty } = spec;
    context.sessions.capture(call.session, started, { ...(tty === undefined ? {} : { tty }), env: call.env ?? {} });
  }
  if (call.keepStdinOpen && call.stdin !== undefined) await writeWithin(started, bytesOf(call.stdin), call.yieldMs);
  return await reply(context, started, { ...call, fromOffset: 0 });
}

/** The reply to a call that was started before, by another runner or in another way, and whose reply nobody has had. */
export async function execAgain(context: ToolContext, callId: string, call: calls.ExecCall): Promise<ExecData> {
  return await reply(context, await context.getCall(callId), { ...call, fromOffset: 0 });
}

export async function execPoll(context: ToolContext, call: calls.ExecPollCall): Promise<ExecData> {
  return await reply(context, await context.getCall(call.callId), { ...call, streams: 'merged' });
}

export async function execWrite(context: ToolContext, call: calls.ExecWriteCall): Promise<ToolData> {
  const started = await context.getCall(call.callId);
  if (call.data !== undefined) {
    const bytes = bytesOf(call.data);
    const what = `writing ${bytes.length} bytes to ${call.callId}, which does not read them (they stay queued)`;
    await Deadline.run(writeMaxMs, what, async () => await started.write(bytes), 'limit_exceeded');
  }
  if (call.close) await started.closeStdin();
  return { kind: 'done' };
}

export async function execSignal(context: ToolContext, call: calls.ExecSignalCall): Promise<ToolData> {
  const signal = constants.signals[`SIG${call.signal}`];
  (await context.getCall(call.callId)).signal(signal, call.target === 'all' ? 'tree' : 'foreground');
  return { kind: 'done' };
}

export async function execKill(context: ToolContext, call: calls.ExecKillCall): Promise<ToolData> {
  (await context.getCall(call.callId)).kill();
  return { kind: 'done' };
}

export async function execResize(context: ToolContext, call: calls.ExecResizeCall): Promise<ToolData> {
  (await context.getCall(call.callId)).resize(call.columns, call.rows);
  return { kind: 'done' };
}

export function execList(context: ToolContext): ToolData {
  const found = context.calls.list().map((call) => ({
    callId: call.id,
    state: call.result === undefined ? ('running' as const) : ('ended' as const),
    exitCode: exitCode(call.result),
    totalBytes: call.output.size('merged'),
  }));
  return { kind: 'calls', calls: found };
}

export async function output(context: ToolContext, call: calls.OutputCall): Promise<ToolData> {
  const started = await context.getCall(call.callId);
  const ended = started.result !== undefined;
  const totalBytes = started.output.size(call.stream);
  const offset = Math.min(call.offset, totalBytes);
  const { bytes } = await started.output.read(offset, call.maxBytes, call.stream);
  const atEnd = offset + bytes.length >= totalBytes;
  // Half a character waits for its rest, but never for ever: what is alone in its reply goes out as it is.
  const whole = ended && atEnd ? bytes.length : wholeCharacters(bytes);
  const content = bytes.subarray(0, whole === 0 ? bytes.length : whole);
  const nextOffset = offset + content.length;
  return {
    kind: 'output',
    content: await viewLong(content),
    offset,
    nextOffset,
    totalBytes,
    ended: ended && nextOffset >= totalBytes,
  };
}

async function specOf(context: ToolContext, call: calls.ExecCall): Promise<ExecSpec> {
  const common: Omit<ExecSpec, 'command'> = {
    ...(call.cwd === undefined ? {} : { cwd: call.cwd }),
    ...(call.env === undefined ? {} : { env: call.env }),
    ...(call.tty === undefined ? {} : { tty: call.tty }),
    ...(call.idleMs === undefined ? {} : { idleMs: call.idleMs }),
    stdin: stdinOf(call),
    killAfterMs: call.killAfterMs,
    descendants: call.descendants,
  };
  if (call.argv !== undefined) return { ...common, command: { kind: 'argv', argv: call.argv } };
  const script = call.script ?? '';
  const shell = await context.shells.find(call.shell);
  if (call.session !== undefined) return context.sessions.prepare(call.session, shell, script, common);
  return { ...common, command: { kind: 'script', script: closeScript + script, shell: [shell] } };
}

function stdinOf(call: calls.ExecCall): StdinSpec {
  if (call.keepStdinOpen) return { kind: 'open' };
  return call.stdin === undefined ? { kind: 'null' } : { kind: 'bytes', bytes: bytesOf(call.stdin) };
}

/** A command that does not read its input, or has ended, is no fault of this call: its outcome says what happened. */
async function writeWithin(call: StartedCall, bytes: Buffer, timeoutMs: number): Promise<void> {
  const written = call.write(bytes).catch(() => undefined);
  await withTimeout(written, timeoutMs);
}

interface ReplyOptions {
  readonly yieldMs: number;
  readonly maxReplyBytes: number;
  readonly fromOffset: number;
  readonly streams: 'merged' | 'split';
}

async function reply(context: ToolContext, call: StartedCall, options: ReplyOptions): Promise<ExecData> {
  if (call.result === undefined) await withTimeout(call.ended, options.yieldMs);
  const end = call.result;
  const capture = end === undefined ? undefined : await context.sessions.captured(call);
  const view = { ended: end !== undefined, fromOffset: options.fromOffset, maxBytes: options.maxReplyBytes };
  const split = options.streams === 'split';
  const shares = splitShares(call, options.maxReplyBytes);
  const merged = split ? null : await replyOutput(call, 'merged', view);
  const stdout = split ? await replyOutput(call, 'stdout', { ...view, maxBytes: shares.stdout }) : null;
  const stderr = split ? await replyOutput(call, 'stderr', { ...view, maxBytes: shares.stderr }) : null;
  return {
    kind: 'exec',
    state: end === undefined ? 'running' : 'ended',
    outcome: end?.outcome ?? null,
    exitCode: exitCode(end),
    output: merged === null ? null : withoutNext(merged),
    stdout: stdout === null ? null : withoutNext(stdout),
    stderr: stderr === null ? null : withoutNext(stderr),
    nextOffset: merged?.nextOffset ?? call.output.size('merged'),
    totalBytes: {
      merged: call.output.size('merged'),
      stdout: call.output.size('stdout'),
      stderr: call.output.size('stderr'),
    },
    wallMs: end?.wallMs ?? null,
    cpuMs: end?.cpuMs ?? null,
    maxRssBytes: end?.maxRssBytes ?? null,
    descendantsAlive: end?.descendantsAlive ?? null,
    killed: end?.killed ?? null,
    egressDenied: [...context.egressDenied(call.id)],
    session: capture === undefined ? null : { ...capture, cwd: context.sessions.get(capture.name)?.cwd ?? null },
  };
}

/** What nobody saw end has no exit code. */
function exitCode(end: CallEnd | undefined): number | null {
  return end === undefined || end.outcome.kind === 'sandbox_lost' ? null : exitCodeOf(end.outcome);
}

/** What one stream does not need, the other may have. */
function splitShares(call: StartedCall, maxBytes: number): { stdout: number; stderr: number } {
  const half = Math.floor(maxBytes / 2);
  const stdout = call.output.size('stdout');
  const stderr = call.output.size('stderr');
  return { stdout: Math.max(half, maxBytes - stderr), stderr: Math.max(half, maxBytes - stdout) };
}

function withoutNext<T extends { nextOffset: number }>(reply: T): Omit<T, 'nextOffset'> {
  const { nextOffset: _, ...rest } = reply;
  return rest;
}

async function withTimeout(work: Promise<unknown>, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
  });
  try {
    await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
