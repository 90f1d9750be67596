import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type {
  StartVerification,
  VerificationList,
  VerificationState,
  VerificationView,
} from '../contract/verification-view.ts';
import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import { newestIdIn, recordIdsIn } from '../data-dir/names-in.ts';
import { isRunnerError, messageOf, RunnerError } from '../errors.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import { parsePolicyRecord } from '../policy/policy-record.ts';
import type { Scope } from '../store/key-row.ts';
import type { RunRow } from '../store/runs.ts';
import type { GateResult } from '../verify/verification.ts';
import { findVerification, getVerification, type KeptVerification } from '../verify/verification-files.ts';
import type { VerifyOptions } from '../verify/verify.ts';
import type { Access } from './access.ts';
import type { EventLog } from './event-log.ts';
import type { Principal } from './principal.ts';

/** Judges a closed run. */
export type Verify = (run: string, options: VerifyOptions) => Promise<KeptVerification>;

export interface VerificationDeskParts {
  /** Who asks has this scope, and one more call to make; throws what refuses it. */
  readonly ask: (principal: Principal, scope: Scope) => void;
  readonly access: Access;
  readonly dataDir: DataDir;
  readonly events: EventLog;
  /** The place of a run, until what it returns is called; throws where there is none. */
  readonly hold: (principal: Principal, id: string, policy: LoadedPolicy['policy']) => Promise<() => void>;
  readonly verify: Verify;
  /** What nobody waits for. */
  readonly onTrouble: (line: string) => void;
}

export interface WaitBeyond {
  /** A step that was seen. */
  readonly seen?: number | undefined;
  readonly waitMs: number;
}

/** What came of those that left no record; more are forgotten, the oldest first. */
const failedMax = 1_000;
const listedMax = 100;

/**
 * Verifications that a service makes. Promises:
 *  - of one run there is one at a time, and whoever asks for one meanwhile is given that;
 *  - asked for again, nothing is done twice: a verification that is newer than the one that was not enough is the answer;
 *  - one takes the place of a run, of its key, its team and the service, for as long as it lasts, and is refused as a run is;
 *  - nobody who stops waiting ends it; what ends it before its end (`cancel`, `stop`) leaves no record, and is told by its id.
 */
export class VerificationDesk {
  readonly #parts: VerificationDeskParts;
  readonly #running = new Map<string, Job>();
  readonly #failed = new Map<string, VerificationState>();
  #stopped = false;

  constructor(parts: VerificationDeskParts) {
    this.#parts = parts;
  }

  /** One that is newer than `after`: that is there, that is being made, or that begins now. */
  async start(principal: Principal, runId: string, { after }: StartVerification): Promise<VerificationState> {
    const { ask, access, dataDir, hold } = this.#parts;
    ask(principal, 'call');
    const row = access.find(principal, runId);
    if (row.state !== 'closed')
      throw new RunnerError('run_not_open', `run ${row.id} is ${row.state}, and is verified once it is closed`);
    const running = this.#running.get(row.id);
    if (running !== undefined) return running.view();
    const dir = dataDir.runDir(row.id);
    const newest = (await recordIdsIn(dir.verificationsDir)).at(-1);
    if (newest !== undefined && newest !== after) return endedView(await getVerification(dir, newest));
    const id = await newestIdIn(dir.verificationsDir);
    const release = await hold(principal, id, await policyOf(dir));
    const other = this.#running.get(row.id);
    if (other !== undefined) {
      release(); // somebody was faster while we looked
      return other.view();
    }
    if (this.#stopped) {
      release();
      throw stopping();
    }
    return this.#begin(row, principal, id, release).view();
  }

  /** The newest, which is the one that holds. Throws `not_found`, and `journal_broken` for one that was changed. */
  async newest(principal: Principal, runId: string): Promise<VerificationView> {
    const { ask, access, dataDir } = this.#parts;
    ask(principal, 'read');
    const { id } = access.find(principal, runId);
    const found = await findVerification(dataDir.runDir(id));
    if (found !== undefined) return found;
    throw new RunnerError('not_found', `run ${id} was never verified; glovebox verify ${id} does it`);
  }

  /** Those that were kept, and the one that is made now. */
  async list(principal: Principal, runId: string): Promise<VerificationList> {
    const { ask, access, dataDir } = this.#parts;
    ask(principal, 'read');
    const dir = dataDir.runDir(access.find(principal, runId).id);
    const ids = (await recordIdsIn(dir.verificationsDir)).slice(-listedMax).reverse();
    const kept = await Promise.all(ids.map((id) => getVerification(dir, id)));
    const verifications = kept.map(({ digest, verification: { id, at, verdict } }) => ({ id, at, verdict, digest }));
    return { verifications, running: this.#running.get(dir.id)?.view() ?? null };
  }

  /** One by its id; of one that is made, waits for a step beyond `seen`. Throws `not_found`. */
  async get(principal: Principal, runId: string, id: string, { seen, waitMs }: WaitBeyond): Promise<VerificationState> {
    const { ask, access, dataDir } = this.#parts;
    ask(principal, 'read');
    const row = access.find(principal, runId);
    const job = this.#running.get(row.id);
    if (job?.id === id) {
      await job.beyond(seen ?? job.step - 1, waitMs);
      if (this.#running.get(row.id) === job) return job.view();
    }
    const failed = this.#failed.get(id);
    if (failed?.run === row.id) return failed;
    return endedView(await getVerification(dataDir.runDir(row.id), id));
  }

  /** Gives up one that is made; of one that has ended it changes nothing. */
  async cancel(principal: Principal, runId: string, id: string): Promise<VerificationState> {
    this.#parts.access.require(principal, 'call');
    const row = this.#parts.access.find(principal, runId);
    const job = this.#running.get(row.id);
    if (job?.id === id) {
      job.cancel();
      await job.done;
    }
    return this.get(principal, runId, id, { waitMs: 0 });
  }

  /** Begins no more; those that are made end as `draining`, and are waited for so long. */
  async stop(deadlineMs: number): Promise<void> {
    this.#stopped = true;
    for (const job of this.#running.values()) job.abort(stopping());
    const ended = Promise.all([...this.#running.values()].map(({ done }) => done));
    await Promise.race([ended, sleep(deadlineMs, undefined, { ref: false })]);
  }

  get size(): number {
    return this.#running.size;
  }

  #begin(row: RunRow, { identity: by }: Principal, id: string, release: () => void): Job {
    const { events, onTrouble, verify } = this.#parts;
    const common = (): { at: string; run: string; team: string; verification: string } => {
      return { at: new Date().toISOString(), run: row.id, team: row.team, verification: id };
    };
    const job = new Job(id, row.id, by);
    this.#running.set(row.id, job);
    events.push({ type: 'verification.started', ...common(), by }, row);
    const made = verify(row.id, {
      id,
      signal: job.signal,
      onAttempt: (name) => job.begun(name),
      onGate: (result) => {
        if (job.signal.aborted) return;
        job.judged(result);
        const { id: gate, verdict, reason } = result;
        events.push({ type: 'verification.gate', ...common(), gate, verdict, reason }, row);
      },
      onTrouble: (text) => onTrouble(`verification ${id} of run ${row.id}: ${text}`),
    });
    job.done = made
      .then(
        ({ verification }) => verification.verdict,
        (error: unknown) => this.#giveUp(job, error),
      )
      .then((outcome) => {
        this.#running.delete(row.id);
        release();
        job.wake();
        events.push({ type: 'verification.ended', ...common(), outcome }, row);
      });
    return job;
  }

  #giveUp(job: Job, error: unknown): 'cancelled' | 'not_made' {
    const view = { ...job.view(), attempt: null };
    const { dataDir, onTrouble } = this.#parts;
    if (job.isCancelled) this.#keepFailed({ ...view, state: 'cancelled' });
    else {
      onTrouble(`verification ${job.id} of run ${job.run} was not made: ${messageOf(error)}`);
      this.#keepFailed({ ...view, state: 'failed', problem: problemOf(error, dataDir.path) });
    }
    return job.isCancelled ? 'cancelled' : 'not_made';
  }

  #keepFailed(view: VerificationState): void {
    const [oldest] = this.#failed.keys();
    if (this.#failed.size >= failedMax && oldest !== undefined) this.#failed.delete(oldest);
    this.#failed.set(view.id, view);
  }
}

/** One that is made now. */
class Job {
  readonly id: string;
  readonly run: string;
  readonly by: string;
  /** Never rejects. */
  done: Promise<void> = Promise.resolve();
  step = 0;
  isCancelled = false;
  #attempt: string | null = null;
  readonly #gates: GateResult[] = [];
  readonly #aborting = new AbortController();
  readonly #waiting = new Set<() => void>();

  constructor(id: string, run: string, by: string) {
    this.id = id;
    this.run = run;
    this.by = by;
  }

  get signal(): AbortSignal {
    return this.#aborting.signal;
  }

  begun(attempt: string): void {
    if (this.signal.aborted) return; // the next that anybody hears is that it was given up
    this.#attempt = attempt;
    this.wake();
  }

  judged(result: GateResult): void {
    this.#gates.push(result);
    this.#attempt = null;
    this.wake();
  }

  wake(): void {
    this.step += 1;
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }

  async beyond(seen: number, waitMs: number): Promise<void> {
    if (this.step > seen || waitMs === 0) return;
    const leaving = new AbortController();
    const stepped = new Promise<void>((resolve) => this.#waiting.add(resolve));
    await Promise.race([stepped, sleep(waitMs, undefined, { signal: leaving.signal }).catch(() => undefined)]);
    leaving.abort();
  }

  cancel(): void {
    this.isCancelled = true;
    this.abort(new RunnerError('conflict', `verification ${this.id} was given up`));
  }

  abort(reason: RunnerError): void {
    this.#aborting.abort(reason);
  }

  view(): VerificationState {
    const { id, run, by, step } = this;
    const so = { attempt: this.#attempt, gates: [...this.#gates], digest: null, verification: null, problem: null };
    return { id, run, state: 'running', by, step, ...so };
  }
}

function endedView({ digest, verification }: KeptVerification | VerificationView): VerificationState {
  const { id, run, gates } = verification;
  const what = { id, run, state: 'ended', by: null, step: gates.length, attempt: null, gates } as const;
  return { ...what, digest: digest as KeptVerification['digest'], verification, problem: null };
}

/** In the words of a problem, without a path of this machine. */
function problemOf(error: unknown, hidden: string): VerificationState['problem'] {
  if (!isRunnerError(error))
    return { code: 'internal', detail: 'a mistake of the service; its log has more', retryable: false };
  return { code: error.code, detail: error.message.replaceAll(hidden, '<data>'), retryable: error.retryable };
}

function stopping(): RunnerError {
  return new RunnerError('draining', 'the service is about to stop; ask the next one for the verification', {
    retryAfterMs: 5_000,
  });
}

async function policyOf(dir: RunDir): Promise<LoadedPolicy['policy']> {
  const text = await readFile(dir.policy, 'utf8').catch((cause: unknown) => {
    throw new RunnerError('not_found', `what run ${dir.id} has left is no longer kept: there is nothing to verify`, {
      cause,
    });
  });
  return parsePolicyRecord(text, 'policy.json').policy;
}
