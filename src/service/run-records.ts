import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunDir } from '../data-dir/data-dir.ts';
import type { FingerprintView } from '../contract/fingerprint-view.ts';
import { findNewestFingerprint } from '../drift/recorded.ts';
import { RunnerError } from '../errors.ts';
import { exportDocument } from '../runner.ts';
import { exitCodeOf } from '../sandbox/outcome.ts';
import { findOutput } from '../sandbox/find-output.ts';
import { findAnswer } from '../run/answers.ts';
import { findEndedCall, type EndedCall } from '../sandbox/ended-call.ts';
import { replyOutput } from '../tools/output-reply.ts';
import { renderText } from '../tools/result-text.ts';
import type { ExecData, ToolResult } from '../tools/tool-result.ts';
import type { OpenedRun } from './run-views.ts';
import { CallOutput } from './call-output.ts';
import type { OpenRun } from './open-run.ts';

export interface WaitFor {
  /** For the call to be started. */
  readonly waitMs: number;
  /** Nobody waits any more. */
  readonly signal: () => AbortSignal;
}

const startPollMs = 10;

const replyBytes = 30_000;

/** What runs have left on record: of open ones as they stand, of closed ones from their directories. */
export class RunRecords {
  /** A command as it stands now, else what was answered; waits for either. Throws `call_not_found`. */
  async answer(dir: RunDir, open: OpenRun | undefined, callId: string, waitMs: number): Promise<ToolResult> {
    const found = open === undefined ? await this.recorded(dir, callId) : await standing(open.run, callId, waitMs);
    if (found !== undefined) return found;
    throw new RunnerError('call_not_found', `run ${dir.id} has no answer to a call ${callId}`);
  }

  /** Of a run that is not open here. */
  async recorded(dir: RunDir, callId: string): Promise<ToolResult | undefined> {
    const answer = await findAnswer(dir, callId);
    if (answer?.data?.kind !== 'exec' || answer.data.state === 'ended') return answer;
    const ended = await findEndedCall(dir.callsDir, callId);
    return ended === undefined ? answer : withEnd(answer, answer.data, ended);
  }

  /** Taken now where the run is open, else the newest on record. Throws `not_found`, and `journal_broken` for one that was changed. */
  async fingerprint(dir: RunDir, open: OpenRun | undefined): Promise<FingerprintView> {
    if (open !== undefined) return { at: 'asked', ...(await open.run.fingerprints.take('asked')) };
    const found = await findNewestFingerprint(dir);
    if (found !== undefined) return found;
    throw new RunnerError('not_found', `run ${dir.id} was closed before anybody could look at its environment`);
  }

  /** Throws `call_not_found`. */
  async output(dir: RunDir, open: OpenRun | undefined, callId: string, wait: WaitFor): Promise<CallOutput> {
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

  /** `diff.json`, taken now where the run is open. Throws `run_not_open` where a lost one has none. */
  async diff(dir: RunDir, open: OpenRun | undefined): Promise<unknown> {
    if (open !== undefined) return exportDocument(await open.run.diff(), open.run.policy.digest);
    return JSON.parse((await this.#kept(dir, 'diff.json')).toString('utf8')) as unknown;
  }

  /** What `git apply` takes. */
  async patch(dir: RunDir, open: OpenRun | undefined): Promise<Uint8Array> {
    if (open !== undefined) return (await open.run.diff()).patch.bytes;
    return this.#kept(dir, 'changes.patch');
  }

  async #kept(dir: RunDir, name: string): Promise<Buffer> {
    return readFile(join(dir.path, name)).catch((cause: unknown) => {
      const message = `run ${dir.id} has no diff: its sandbox was lost, or what it left is no longer kept`;
      throw new RunnerError('not_found', message, { cause });
    });
  }
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
