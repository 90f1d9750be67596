import { setTimeout as sleep } from 'node:timers/promises';
import type { RunDir } from '../data-dir/data-dir.ts';
import { RunnerError } from '../errors.ts';
import { exitCodeOf } from '../sandbox/outcome.ts';
import { findOutput } from '../sandbox/find-output.ts';
import { findAnswer } from '../run/answers.ts';
import type { CallRequest } from '../run/call-request.ts';
import { findEndedCall, type EndedCall } from '../sandbox/ended-call.ts';
import { replyOutput } from '../tools/output-reply.ts';
import { renderText } from '../tools/result-text.ts';
import type { ExecData, ToolResult } from '../tools/tool-result.ts';
import type { OpenedRun } from './run-views.ts';
import { CallOutput } from './call-output.ts';
import type { KnownRun, OpenRun } from './open-run.ts';

export interface WaitFor {
  /** For the call to be started. */
  readonly waitMs: number;
  /** Nobody waits any more. */
  readonly signal: () => AbortSignal;
}

const startPollMs = 10;

const replyBytes = 30_000;

/** A command as it stands now, else what was answered; waits for either. Throws `call_not_found`. */
export async function answerOf({ dir, open }: KnownRun, callId: string, waitMs: number): Promise<ToolResult> {
  const found = open === undefined ? await recordedAnswer(dir, callId) : await standing(open.run, callId, waitMs);
  if (found !== undefined) return found;
  throw new RunnerError('call_not_found', `run ${dir.id} has no answer to a call ${callId}`);
}

/** Of a run that is not open here. Throws `call_id_reused` where `request` is another one. */
export async function recordedAnswer(
  dir: RunDir,
  callId: string,
  request?: CallRequest,
): Promise<ToolResult | undefined> {
  const answer = await findAnswer(dir, callId, request);
  if (answer?.data?.kind !== 'exec' || answer.data.state === 'ended') return answer;
  const ended = await findEndedCall(dir.callsDir, callId);
  return ended === undefined ? answer : withEnd(answer, answer.data, ended);
}

/** What a command has printed, and goes on to print. Throws `call_not_found`. */
export async function outputOf({ dir, open }: KnownRun, callId: string, wait: WaitFor): Promise<CallOutput> {
  const command = open === undefined ? undefined : await findStarted(open, callId, wait);
  if (command !== undefined)
    return new CallOutput(command.output, () =>
      command.result === undefined || command.result.outcome.kind === 'sandbox_lost'
        ? null
        : exitCodeOf(command.result.outcome),
    );
  const log = await findOutput(dir.callsDir, callId).catch(() => undefined);
  if (log === undefined)
    throw new RunnerError('call_not_found', `no command was started as call ${callId} in run ${dir.id}`);
  return new CallOutput(log, () => null);
}

async function standing(run: OpenedRun, callId: string, waitMs: number): Promise<ToolResult | undefined> {
  const byMs = performance.now() + waitMs;
  for (;;) {
    if (run.findCommand(callId) !== undefined) {
      const leftMs = Math.max(0, Math.ceil(byMs - performance.now()));
      return { ...(await run.poll(callId, leftMs)), callId, tool: 'exec' };
    }
    const isPast = run.isPast(callId);
    const answer = await run.answer(callId);
    const isRunning = answer?.data?.kind === 'exec' && answer.data.state === 'running';
    // What a runner before has begun, and never answered, is on disk or nowhere: there is nothing to wait for.
    if (isRunning || (answer === undefined && isPast)) return { ...(await run.poll(callId, 0)), callId, tool: 'exec' };
    if (answer !== undefined || performance.now() >= byMs) return answer;
    await sleep(startPollMs);
  }
}

/** What was answered while the command ran, with how it ended. */
async function withEnd(answer: ToolResult, before: ExecData, ended: EndedCall): Promise<ToolResult> {
  const { outcome, wallMs, cpuMs, maxRssBytes, descendantsAlive, killed } = ended.result;
  const { nextOffset, ...output } = await replyOutput(ended, 'merged', {
    fromOffset: 0,
    maxBytes: replyBytes,
    ended: true,
  });
  const [merged, stdout, stderr] = (['merged', 'stdout', 'stderr'] as const).map((view) => ended.output.size(view));
  const exitCode = outcome.kind === 'sandbox_lost' ? null : exitCodeOf(outcome);
  const data: ExecData = {
    ...before,
    state: 'ended',
    outcome,
    exitCode,
    output,
    stdout: null,
    stderr: null,
    nextOffset,
    totalBytes: { merged: merged ?? 0, stdout: stdout ?? 0, stderr: stderr ?? 0 },
    wallMs,
    cpuMs,
    maxRssBytes,
    descendantsAlive,
    killed,
  };
  return { ...answer, ok: exitCode === 0, text: renderText(data, ended.id), data };
}

/** A client may ask for the output before its call has come so far. */
async function findStarted({ run }: OpenRun, callId: string, { waitMs, signal }: WaitFor) {
  const byMs = performance.now() + waitMs;
  for (;;) {
    const command = run.findCommand(callId);
    if (command !== undefined || performance.now() >= byMs || signal().aborted) return command;
    if (run.isPast(callId)) return run.findCommand(callId); // it has ended long ago
    await sleep(startPollMs);
  }
}
