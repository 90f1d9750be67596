import { RunnerError } from '../errors.ts';
import type { Digest } from '../digest.ts';
import { readEntries } from '../journal/read.ts';
import { recompile, type EffectiveGate, type LoadedPolicy } from '../policy/policy.ts';
import type { Run, Runner } from '../runner.ts';
import type { ToolCallInput } from '../tools/tool-call.ts';
import type { ExecData, ToolResult } from '../tools/tool-result.ts';
import { attemptName, type Attempt, type AttemptRequest, type MadeRun, type ReportRead } from './attempt.ts';
import type { Subject } from './subject.ts';
import { readReport } from './test-reports/read-report.ts';
import { reportBytesMax, ReportError } from './test-reports/test-report.ts';
import type { Way } from './verification.ts';

const pollMs = 60_000;
const tailBytes = 8192;
const tailLines = 20;

/**
 * Makes attempts: each in a sandbox of its own, opened from the snapshot of the candidate, its base or a mixture of both,
 * under the policy of the run with the network shut but for what the gate names. Each is a run with a journal; nobody but this
 * class asks anything of it.
 */
export class Sandboxes {
  readonly #runner: Runner;
  readonly #subject: Subject;
  readonly #made: MadeRun[] = [];
  readonly #signal: AbortSignal | undefined;

  constructor(runner: Runner, subject: Subject, signal?: AbortSignal) {
    this.#runner = runner;
    this.#subject = subject;
    this.#signal = signal;
  }

  /** All so far, in the order in which they ended. */
  get made(): readonly MadeRun[] {
    return this.#made;
  }

  /** Throws only what `signal` was aborted with. */
  async attempt(request: AttemptRequest): Promise<Attempt> {
    this.#signal?.throwIfAborted();
    try {
      const run = await this.#open(request);
      let attempt: Attempt | undefined;
      let told: Told | undefined;
      try {
        attempt = await this.#within(run, request);
      } finally {
        const reason = this.#signal?.aborted === true ? 'cancelled' : 'finished';
        await run.close(reason).catch(() => undefined); // what it could not collect is in its journal
        told = await readEnd(run);
        this.#made.push({ run: run.id, of: attemptName(request), journal: told.head });
      }
      return attempt.kind === 'ended' ? { ...attempt, networkTrouble: told.networkTrouble } : attempt;
    } catch (error) {
      this.#signal?.throwIfAborted();
      if (!(error instanceof RunnerError)) throw error;
      return { kind: 'unavailable', code: error.code, message: error.message };
    }
  }

  async #open({ gate, where, how }: AttemptRequest): Promise<Run> {
    const { snapshot, checks } = this.#subject;
    const policy = policyFor(snapshot.policy, gate, how);
    const source = { ...snapshot, ...checks.at(where), policy };
    const [run] = await this.#runner.fork(source, {
      verifies: { run: snapshot.run, gate: gate.id, attempt: `${where}/${how}` },
      ...(this.#signal === undefined ? {} : { signal: this.#signal }),
    });
    if (run === undefined) throw new RunnerError('internal', `no sandbox was made for the gate ${gate.id}`);
    return run;
  }

  async #within(run: Run, { gate, how }: AttemptRequest): Promise<Attempt> {
    const stop = (): void => void run.close('cancelled').catch(() => undefined);
    this.#signal?.addEventListener('abort', stop, { once: true });
    try {
      const answer = await ended(run, 'gate', { tool: 'exec', ...commandOf(gate, how), killAfterMs: gate.timeoutMs });
      if (answer.kind !== 'ended') return answer;
      const { outcome, egressDenied } = answer.data;
      if (outcome === null) throw new RunnerError('internal', `the gate ${gate.id} ended without an outcome`);
      const report = gate.report === undefined ? {} : { report: await this.#report(run, gate.report) };
      const denied = egressDenied.map(
        ({ host, port, reason }) => `${host}${port === null ? '' : `:${port}`}: ${reason}`,
      );
      return { kind: 'ended', outcome, egressDenied: denied, ...report, tail: await tailOf(run) };
    } finally {
      this.#signal?.removeEventListener('abort', stop);
    }
  }

  /** What was printed, or what a second call prints of what was written: either way its digest is in the journal. */
  async #report(run: Run, { kind, path }: NonNullable<EffectiveGate['report']>): Promise<ReportRead> {
    const callId = path === undefined ? 'gate' : 'report';
    if (path !== undefined) {
      const answer = await ended(run, callId, { tool: 'exec', argv: ['cat', '--', path], killAfterMs: pollMs });
      if (answer.kind !== 'ended') return unreadable(`${path} cannot be read`);
      const { outcome } = answer.data;
      if (outcome?.kind !== 'exited' || outcome.code !== 0)
        return unreadable(`${path} is not there, or cannot be read`);
    }
    const output = run.findCommand(callId)?.output;
    const size = output?.size('stdout') ?? 0;
    if (output === undefined || size === 0) return unreadable('it is empty');
    if (size > reportBytesMax) return unreadable(`it is longer than ${reportBytesMax} bytes`);
    const { bytes } = await output.read(0, size, 'stdout');
    try {
      return { kind: 'read', report: readReport(kind, bytes) };
    } catch (error) {
      if (error instanceof ReportError) return unreadable(error.message);
      throw error;
    }
  }
}

type Ended = { readonly kind: 'ended'; readonly data: ExecData } | Extract<Attempt, { readonly kind: 'refused' }>;

/** A command of ours in a sandbox of ours: bounded by its own time alone. */
async function ended(run: Run, callId: string, asked: Exec): Promise<Ended> {
  const { commandTimeoutMs } = run.policy.policy.limits;
  const killAfterMs = Math.min(asked.killAfterMs, commandTimeoutMs);
  let result = await run.call(callId, { ...asked, killAfterMs, yieldMs: pollMs, maxReplyBytes: 256 });
  while (result.data?.kind === 'exec' && result.data.state === 'running') result = await run.poll(callId, pollMs);
  if (result.data?.kind === 'exec') return { kind: 'ended', data: result.data };
  if (result.error?.code === 'denied') return await refusal(run, callId, result);
  throw new RunnerError('internal', `the gate's command was answered: ${result.text.slice(0, 200)}`);
}

type Exec = Extract<ToolCallInput, { readonly tool: 'exec' }> & { readonly killAfterMs: number };

async function refusal(run: Run, callId: string, { text }: ToolResult): Promise<Ended> {
  for await (const entry of readEntries(run.dir.journal)) {
    if (entry.type !== 'call.denied' || entry.data.callId !== callId) continue;
    const { rule, reason } = entry.data;
    return { kind: 'refused', rule, reason };
  }
  return { kind: 'refused', rule: 'unknown', reason: text };
}

function commandOf(gate: EffectiveGate, how: Way): Pick<Exec, 'argv' | 'script'> {
  const command = how === 'shuffled' && gate.shuffle !== undefined ? { argv: gate.shuffle } : gate.command;
  if ('script' in command) return { script: command.script };
  const [program = '', ...rest] = command.argv;
  return { argv: [program, ...rest] };
}

/** The same policy, and less of it. Throws `invalid_policy` where the gate names what this run could never have had. */
function policyFor(policy: LoadedPolicy, { egress }: EffectiveGate, how: Way): LoadedPolicy {
  const { intent } = policy.task;
  const { limits } = policy.policy;
  const cpus = how === 'half_cpu' ? { limits: { ...intent?.limits, cpus: Math.max(0.1, limits.cpus / 2) } } : {};
  const reach = how === 'no_network' ? [] : egress;
  return recompile(policy, { ...policy.task, intent: { ...intent, ...cpus, egress: reach } });
}

/** The last that it printed, as lines. */
async function tailOf(run: Run): Promise<readonly string[]> {
  const output = run.findCommand('gate')?.output;
  const size = output?.size('merged') ?? 0;
  if (output === undefined || size === 0) return [];
  const from = Math.max(0, size - tailBytes);
  const { bytes } = await output.read(from, size - from, 'merged');
  const text = bytes.toString('utf8').split('\n');
  return text.filter((one) => one.trim() !== '').slice(-tailLines);
}

interface Told {
  /** Hash of the last entry: the run is closed, so nothing follows it. */
  readonly head: Digest;
  readonly networkTrouble: boolean;
}

async function readEnd(run: Run): Promise<Told> {
  let head: Digest | undefined;
  let networkTrouble = false;
  for await (const entry of readEntries(run.dir.journal)) {
    head = entry.hash;
    if (entry.type === 'egress.decided' && entry.data.decision === 'denied') networkTrouble = true;
    if (entry.type !== 'egress.ended') continue;
    const { result, status = 0 } = entry.data;
    if (result !== 'done' || status >= 500 || status === tooMany) networkTrouble = true;
  }
  if (head === undefined) throw new RunnerError('journal_broken', `the journal of run ${run.id} is empty`);
  return { head, networkTrouble };
}

const tooMany = 429;

function unreadable(why: string): ReportRead {
  return { kind: 'unreadable', why };
}
