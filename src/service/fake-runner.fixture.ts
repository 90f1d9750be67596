import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, type Duplex } from 'node:stream';
import { makeClosedRun, type ClosedRun } from '../bundle/closed-run.fixture.ts';
import { digestOfContext, parseContext, type ContextSnapshot } from '../context/context-snapshot.ts';
import { DataDir, type RunDir } from '../data-dir/data-dir.ts';
import { digestOf } from '../digest.ts';
import { documentDigest } from '../drift/fingerprint.ts';
import { someFingerprint } from '../drift/fingerprint.fixture.ts';
import { RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import type { ForkRequest, OpenRequest, RunSnapshot } from '../runner.ts';
import { syncRuns } from '../store/rebuild.ts';
import { Store } from '../store/store.ts';
import { describeTools } from '../tools/describe.ts';
import { parseCall } from '../tools/parse-call.ts';
import type { ToolCallInput } from '../tools/tool-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import { CallRequest } from '../run/call-request.ts';
import { encodeTaken } from '../run/snapshot.ts';
import { ApprovalDesk } from './approval-desk.ts';
import type { DiskState } from './disk-room.ts';
import { PolicySource } from './policy-source.ts';
import type { RunnerPort } from './run-opening.ts';
import type { OpenedRun } from './run-views.ts';
import { Service, type ServiceOptions } from './service.ts';
import type { Verify } from './verification-desk.ts';

/** A run without a sandbox: it keeps answers by their ids, and does nothing else. */
export class FakeRun {
  readonly id: string;
  readonly dir: RunDir;
  readonly policy: LoadedPolicy;
  readonly image = { reference: 'base', id: digestOf('image') };
  readonly base = { digest: digestOf('base') };
  readonly made: string[] = [];
  readonly lost: Promise<{ code: string; reason: string }>;
  candidate: object | undefined;
  summary = '';
  isClosing = false;
  /** As what its journal is closed. */
  outcome: string | undefined;
  /** Calls wait for it. */
  gate: Promise<void> = Promise.resolve();
  /** What closing fails with. */
  stuck: Error | undefined;
  readonly #answers = new Map<string, { readonly request: CallRequest; readonly answer: Promise<ToolResult> }>();
  #lose: (loss: { code: string; reason: string }) => void = () => undefined;

  constructor(id: string, dir: RunDir, policy: LoadedPolicy) {
    this.id = id;
    this.dir = dir;
    this.policy = policy;
    this.lost = new Promise((resolve) => {
      this.#lose = resolve;
    });
  }

  async call(callId: string, input: ToolCallInput): Promise<ToolResult> {
    const call = parseCall(callId, input);
    const request = new CallRequest(call);
    const known = this.#answers.get(callId);
    if (known !== undefined) {
      await request.refuseOther(callId, await known.request.asked());
      return known.answer;
    }
    this.made.push(callId);
    const result: ToolResult = { callId, tool: call.tool, ok: true, text: 'done', data: { kind: 'done' }, error: null };
    const answer = this.gate.then(() => result);
    this.#answers.set(callId, { request, answer });
    return answer;
  }

  async answer(callId: string): Promise<ToolResult | undefined> {
    return this.#answers.get(callId)?.answer;
  }

  isPast(callId: string): boolean {
    return this.#answers.has(callId);
  }

  tools(): unknown {
    return describeTools(this.policy.policy.tools.allow);
  }

  remaining(): unknown {
    const many = { calls: 50, denied: 8, approvals: 5, parallel: 4, outputBytes: 1_000_000, wallClockMs: 60_000 };
    return { ...many, byTag: {}, deniedInARow: null, perMinute: null, cpuMs: null };
  }

  /** What was said of the agent's beliefs, and by whom. */
  readonly contexts: { readonly snapshot: ContextSnapshot; readonly by: string | undefined }[] = [];
  readonly worker = {};

  async attachContext(input: unknown, by?: string): Promise<unknown> {
    const snapshot = parseContext(input);
    this.contexts.push({ snapshot, by });
    return { digest: digestOfContext(snapshot), number: this.contexts.length };
  }

  /** What is on record of who takes part without a call. */
  readonly joined: string[] = [];
  /** What noting that fails with. */
  unwritable: Error | undefined;
  /** A command that runs. */
  command: { kill(): void; readonly ended: Promise<unknown> } | undefined;

  async noteParticipant(by: string, how: string): Promise<void> {
    if (this.unwritable !== undefined) throw this.unwritable;
    this.joined.push(`${by} ${how}`);
  }

  findCommand(): FakeRun['command'] {
    return this.command;
  }

  async forward(): Promise<Duplex> {
    return new PassThrough();
  }

  reach(): unknown {
    return {
      run: this.id,
      policy: this.policy.policy.name,
      egress: { rules: [], without: [] },
      credentials: { names: [], revoked: [] },
    };
  }

  async narrowEgress(): Promise<unknown> {
    return this.reach();
  }

  async revokeCredential(): Promise<unknown> {
    return this.reach();
  }

  readonly fingerprints = {
    asked: async () => {
      const fingerprint = someFingerprint();
      return { fingerprint, document: documentDigest(fingerprint) };
    },
  };

  async diff(): Promise<never> {
    throw new RunnerError('run_not_open', 'a run without a sandbox has no diff');
  }

  async snapshot(): Promise<unknown> {
    return {
      digest: digestOf(encodeTaken({ changeSet: { changes: new Map() } })),
      scratch: false,
      changeSet: { changes: new Map() },
      policy: this.policy,
      run: this.id,
    };
  }

  async restore(): Promise<void> {
    await this.gate;
  }

  lose(reason: string): void {
    this.#lose({ code: 'sandbox_lost', reason });
  }

  async close(reason = 'finished', summary = ''): Promise<void> {
    if (this.stuck !== undefined) throw this.stuck;
    if (!this.isClosing) this.summary = summary;
    this.isClosing = true;
    this.candidate ??= {};
    this.outcome = reason;
    this.#lose({ code: 'run_not_open', reason: 'closed' });
  }
}

export class FakeRunner implements RunnerPort {
  readonly runs = new Map<string, FakeRun>();
  readonly #dataDir: DataDir;
  /** How often what could not be closed was to be removed, and what that fails with. */
  readonly removals = { asked: 0, error: undefined as Error | undefined };
  /** Openings wait for it. */
  gate: Promise<void> = Promise.resolve();
  /** How closed runs are judged. */
  verify: Verify = () => Promise.reject(new Error('nobody has said how'));

  constructor(dataDir: DataDir) {
    this.#dataDir = dataDir;
  }

  /** The last one, as it came. */
  asked: OpenRequest | undefined;

  async open(asked: OpenRequest): Promise<OpenedRun> {
    const { id = newId(), policy, signal } = asked;
    this.asked = asked;
    await this.gate;
    signal?.throwIfAborted();
    return this.#add(id, policy);
  }

  async fork({ policy }: RunSnapshot, { count = 1, participants = [] }: ForkRequest): Promise<readonly OpenedRun[]> {
    const forks = Array.from({ length: count }, () => this.#add(newId(), policy));
    for (const { id } of forks) this.get(id).joined.push(...participants.map((by) => `${by} fork_source`));
    return forks;
  }

  async closeLost(): Promise<void> {
    this.removals.asked += 1;
    if (this.removals.error !== undefined) throw this.removals.error;
  }

  get(id: string): FakeRun {
    const run = this.runs.get(id);
    if (run === undefined) throw new RunnerError('run_not_found', id);
    return run;
  }

  #add(id: string, policy: LoadedPolicy): OpenedRun {
    const run = new FakeRun(id, this.#dataDir.runDir(id), policy);
    this.runs.set(id, run);
    return run as unknown as OpenedRun;
  }
}

/** Of the machine that a service is on, as tests turn it. */
interface Outside {
  aheadMs: number;
  freeBytes: number;
}

/** A real service on a real store, of runs that are none. */
export class FakeService {
  readonly service: Service;
  readonly runner: FakeRunner;
  readonly desk: ApprovalDesk;
  readonly store: Store;
  readonly directory: string;
  /** Of the store, against the machine's. */
  readonly clock: Outside;

  private constructor(
    service: Service,
    runner: FakeRunner,
    desk: ApprovalDesk,
    store: Store,
    directory: string,
    clock: Outside,
  ) {
    this.clock = clock;
    this.service = service;
    this.runner = runner;
    this.desk = desk;
    this.store = store;
    this.directory = directory;
  }

  static async open(options: ServiceOptions = {}): Promise<FakeService> {
    const directory = await mkdtemp(join(tmpdir(), 'glovebox-service-'));
    const dataDir = await DataDir.open(directory);
    const clock = { aheadMs: 0, freeBytes: 1e12 };
    const store = Store.open(directory, { now: () => Date.now() + clock.aheadMs });
    const desk = new ApprovalDesk(store);
    const runner = new FakeRunner(dataDir);
    const policies = await PolicySource.open(undefined);
    const disk = async (): Promise<DiskState> => ({ bytes: 1e12, freeBytes: clock.freeBytes, files: 0, freeFiles: 0 });
    const verify: Verify = (...asked) => runner.verify(...asked);
    const service = await Service.open({ runner, desk, dataDir, store, policies, disk, verify, options });
    return new FakeService(service, runner, desk, store, directory, clock);
  }

  /** A run that was closed before the service knew of it. */
  async closedRun({ team = 'red', identity = 'ann' } = {}): Promise<ClosedRun> {
    const { dataDir } = this.service;
    const made = await makeClosedRun(dataDir, { by: { team, identity, key: 'k1' } });
    await syncRuns(this.store, dataDir);
    return made;
  }

  async close(): Promise<void> {
    this.store.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}
