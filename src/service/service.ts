import type { Duplex } from 'node:stream';
import type {
  CloseRun,
  ForkRun,
  OpenRun as OpenAsked,
  RunFilter,
  RunPage,
  RunView,
  SnapshotView,
  TakeSnapshot,
} from '../contract/run-view.ts';
import type { ImageList } from '../contract/service-view.ts';
import type { WorkspaceView } from '../contract/workspace-view.ts';
import type { RunState } from '../control/controlled.ts';
import type { SigningSource } from '../bundle/signing-key.ts';
import type { DataDir } from '../data-dir/data-dir.ts';
import { RunnerError } from '../errors.ts';
import type { ReviewerKeys } from '../promotion/own-word.ts';
import type { RunRow } from '../store/runs.ts';
import type { Store } from '../store/store.ts';
import { Access } from './access.ts';
import type { ApprovalDesk } from './approval-desk.ts';
import { CallDesk } from './call-desk.ts';
import { CallRecord } from './call-record.ts';
import { ContextDesk } from './context-desk.ts';
import { diskOf, DiskRoom, type DiskState } from './disk-room.ts';
import { EngineProbe } from './engine-probe.ts';
import { KeyDesk } from './key-desk.ts';
import { EventLog } from './event-log.ts';
import { LiveRuns } from './live-runs.ts';
import type { KnownRun, OpenRun } from './open-run.ts';
import { Participants } from './participants.ts';
import type { PolicySource } from './policy-source.ts';
import { localKeyId, localPrincipal, principalOf, type Principal } from './principal.ts';
import { Quotas } from './quota.ts';
import { Proposals } from './proposals.ts';
import { RunExports } from './run-exports.ts';
import { RunOpening, type OpenOptions, type RunnerPort } from './run-opening.ts';
import { runView, type OpenedRun } from './run-views.ts';
import { StatsDesk } from './stats-desk.ts';
import { TeamTerms } from './team-terms.ts';
import { Uploads } from './uploads.ts';
import { VerificationDesk, type Verify } from './verification-desk.ts';
import { WorkspaceRoots } from './workspace-roots.ts';
import { WorkspaceSource } from './workspace-source.ts';

export interface ServiceParts {
  readonly runner: RunnerPort;
  /** Its `ask` is the runner's approver. */
  readonly desk: ApprovalDesk;
  readonly dataDir: DataDir;
  readonly store: Store;
  readonly policies: PolicySource;
  /** Runs that a runner before this one has left, and that were taken up. */
  readonly resumed?: readonly OpenedRun[];
  /** Those that could not be. */
  readonly lost?: readonly { readonly id: string; readonly reason: string }[];
  /** Which images there are. */
  readonly images?: () => Promise<ImageList['images']>;
  /** Rejects when the engine does not answer. */
  readonly probe?: () => Promise<unknown>;
  /** Default: of the data directory. */
  readonly disk?: () => Promise<DiskState>;
  /** How closed runs are judged; default: not here. */
  readonly verify?: Verify;
  /** What nobody waits for. */
  readonly onTrouble?: (line: string) => void;
  readonly options?: ServiceOptions;
}

export interface ServiceOptions {
  /** Directories below which workspaces may be; default none: then only the local owner may name one. */
  readonly workspaces?: readonly string[];
  /** Open and opening together; one team has half of it where others have keys. Default 256. */
  readonly runsMax?: number;
  /** With less free on the disk of the data directory no run is opened; default 1 GiB, of a small disk a twentieth. */
  readonly keepFreeBytes?: number | undefined;
  /** Destinations in the network of this machine that policies sent as text may name; default none. */
  readonly sentPolicies?: readonly string[];
  /** Where the key is that bundles are signed with; default: that of the data directory. */
  readonly signing?: SigningSource | undefined;
  /** Keys of reviewers, as the operator gives them. */
  readonly reviewers?: ReviewerKeys | undefined;
}

const runsMax = 256;
/** Nobody bounds the owner of the machine. */
const ownerQuota = { openRuns: 100_000, callsPerMinute: 1_000_000, cpuMillis: 100_000_000, diskBytes: 2 ** 50 };

/**
 * What all doors ask, whoever is behind them: HTTP, MCP, a bridge. Promises:
 *  - every method begins with who asks: a scope is needed, and another team's run is one that does not exist;
 *  - whatever reads what a run has left, or makes more of it, counts as a call against the quotas, before anything is looked for;
 *  - a run is in the store before it exists, and a call's caller before the call is made;
 *  - nobody who stops waiting for a call ends it.
 */
export class Service {
  readonly access: Access;
  readonly events = new EventLog();
  readonly desk: ApprovalDesk;
  readonly policies: PolicySource;
  readonly dataDir: DataDir;
  readonly store: Store;
  readonly keys: KeyDesk;
  readonly images: NonNullable<ServiceParts['images']>;
  readonly room: DiskRoom;
  readonly uploads: Uploads;
  readonly proposals: Proposals;
  readonly calls: CallDesk;
  readonly exports: RunExports;
  readonly contexts: ContextDesk;
  readonly verifications: VerificationDesk;
  readonly stats: StatsDesk;
  readonly #probe: EngineProbe;
  readonly #open: LiveRuns;
  readonly #opening: RunOpening;
  readonly #underWay: CallRecord;
  readonly #quotas: Quotas;
  readonly #participants: Participants;
  readonly #owner = localPrincipal(process.getuid?.() ?? 0, ownerQuota);
  #draining = false;

  private constructor(parts: ServiceParts) {
    const { runner, desk, dataDir, store, policies, options = {} } = parts;
    this.keys = new KeyDesk(store.keys);
    this.images = parts.images ?? (() => Promise.resolve([]));
    this.#probe = new EngineProbe(parts.probe ?? (() => Promise.resolve()));
    this.room = new DiskRoom(parts.disk ?? (() => diskOf(dataDir.path)), options.keepFreeBytes);
    this.uploads = new Uploads(dataDir.uploads, this.room);
    this.desk = desk;
    this.dataDir = dataDir;
    this.store = store;
    this.policies = policies;
    this.access = new Access(store.runs);
    this.#participants = new Participants(store.runs);
    const terms = new TeamTerms(store);
    this.#underWay = new CallRecord(this.events, (team) => terms.find(team).weight);
    this.#quotas = new Quotas({ teamQuota: (team) => terms.find(team).quota });
    this.#open = new LiveRuns({
      rows: store.runs,
      events: this.events,
      quotas: this.#quotas,
      closeLost: (id, reason) => runner.closeLost(id, reason),
    });
    const roots = new WorkspaceRoots(options.workspaces ?? []);
    this.#opening = new RunOpening({
      runner,
      store,
      policies,
      access: this.access,
      quotas: this.#quotas,
      live: this.#open,
      room: this.room,
      host: { roots, destinations: options.sentPolicies ?? [] },
      workspaces: new WorkspaceSource(roots, this.uploads, dataDir.basesDir),
      runsMax: options.runsMax ?? runsMax,
    });
    const { access, events } = this;
    const { signing, reviewers } = options;
    const given = { ask: this.#ask.bind(this), access, dataDir, events, store, signing, reviewers };
    const known = this.#known.bind(this);
    const find = this.find.bind(this);
    this.calls = new CallDesk({
      ...given,
      live: this.#open,
      known,
      find,
      participants: this.#participants,
      record: this.#underWay,
    });
    this.exports = new RunExports({ ...given, known });
    this.contexts = new ContextDesk({ ask: given.ask, service: this, participants: this.#participants });
    this.proposals = new Proposals({ ...given, diff: (principal, run) => this.exports.diff(principal, run) });
    this.stats = new StatsDesk({ ...given, onTrouble: parts.onTrouble });
    this.verifications = new VerificationDesk({
      ...given,
      hold: (...asked) => this.#opening.hold(...asked),
      verify:
        parts.verify ?? (() => Promise.reject(new RunnerError('service_unavailable', 'nothing is verified here'))),
      onTrouble: parts.onTrouble ?? (() => undefined),
    });
    desk.onChange((type, approval, row) =>
      this.events.push({ type, at: now(), run: row.id, team: row.team, approval }, row),
    );
  }

  /** With the runs that were taken up; rows of runs that are open nowhere are closed as lost. */
  static async open(parts: ServiceParts): Promise<Service> {
    const service = new Service(parts);
    for (const run of parts.resumed ?? []) {
      const row = parts.store.runs.find(run.id);
      if (row === undefined) await run.close('failed', 'no record says whose it is');
      else service.#open.admit(run, row);
    }
    const reasons = new Map(parts.lost?.map(({ id, reason }) => [id, reason]));
    for (const state of ['opening', 'open'] as const)
      for (const row of parts.store.runs.list({ state, limit: 100_000 }))
        if (service.#open.get(row.id) === undefined) service.#open.recordClosed(row.id, 'lost', reasons.get(row.id));
    return service;
  }

  /** Throws `unauthenticated`, in the same words whatever is wrong with it. */
  authenticate(secret: string): Principal {
    const key = this.store.keys.find(secret);
    if (key !== undefined) return principalOf(key);
    throw new RunnerError('unauthenticated', 'the key is not one of this service, or it is expired or revoked');
  }

  /** The owner of the data directory, by its socket; `as`: one of several people there, where they are trusted. */
  local(as?: string): Principal {
    return as === undefined ? this.#owner : { ...this.#owner, identity: `local:${as}` };
  }

  /** How long the engine took to answer, in milliseconds. Throws `engine_timeout` and what the engine throws. */
  probe(): Promise<number> {
    return this.#probe.answers();
  }

  /** Whether this key could still be used: of what lasts longer than a request. A store that cannot say so keeps nobody. */
  isLive({ keyId }: Principal): boolean {
    try {
      return keyId === localKeyId || this.store.keys.isLive(keyId);
    } catch {
      return false; // asked by clocks, where an error would end the service with all its runs
    }
  }

  get draining(): boolean {
    return this.#draining;
  }

  get openRuns(): number {
    return this.#open.size;
  }

  get openingRuns(): number {
    return this.#opening.size;
  }

  /** For the turn of their team. */
  get waitingCalls(): number {
    return this.#underWay.waiting;
  }

  async openRun(principal: Principal, asked: OpenAsked, options: OpenOptions = {}): Promise<RunView> {
    return this.#view(await this.#opening.open(principal, asked, options));
  }

  /** Files for runs to start from. */
  upload(principal: Principal, body: AsyncIterable<Uint8Array>): Promise<WorkspaceView> {
    this.#ask(principal, 'run:open');
    return this.uploads.receive(principal, body);
  }

  /** As many as asked for, or none. */
  async fork(principal: Principal, runId: string, asked: ForkRun, signal?: AbortSignal): Promise<readonly RunView[]> {
    this.#ask(principal, 'run:open');
    const source = this.find(principal, runId, 'run:open');
    return (await this.#opening.fork(principal, source, asked, signal)).map((row) => this.#view(row));
  }

  listRuns(principal: Principal, { state, name, limit = 50, cursor }: RunFilter): RunPage {
    this.access.require(principal, 'read');
    const { team } = principal;
    const rows = this.store.runs.list({ team, state, name, before: cursor, limit: limit + 1 });
    const runs = rows.slice(0, limit).map((row) => this.#view(row));
    return { runs, next: rows.length > limit ? (runs.at(-1)?.id ?? null) : null };
  }

  getRun(principal: Principal, runId: string): RunView {
    this.access.require(principal, 'read');
    return this.#view(this.access.find(principal, runId));
  }

  /** One that is open here. Throws `forbidden`, `run_not_found`, `run_not_open`. */
  find(principal: Principal, runId: string, scope: Parameters<Access['require']>[1]): OpenRun {
    this.access.require(principal, scope);
    const entry = this.#open.get(runId);
    if (entry !== undefined && entry.row.team === principal.team) return entry;
    const { state, summary } = this.access.find(principal, runId);
    const why = summary === null ? '' : `: ${summary}`;
    throw new RunnerError('run_not_open', `run ${runId} is ${state}${why}; open another one`);
  }

  /** Into a port on the loopback inside. */
  async forward(principal: Principal, runId: string, port: number): Promise<Duplex> {
    const entry = this.find(principal, runId, 'call');
    await this.#participants.join(principal, entry, 'connected');
    return entry.run.forward(port);
  }

  narrowEgress(principal: Principal, runId: string, without: readonly string[]): Promise<RunState> {
    const entry = this.find(principal, runId, 'call');
    return this.#participants.joinBeside(principal, entry, 'narrowed', () => entry.run.narrowEgress(without));
  }

  revokeCredential(principal: Principal, runId: string, name: string): Promise<RunState> {
    const entry = this.find(principal, runId, 'call');
    return this.#participants.joinBeside(principal, entry, 'revoked', () => entry.run.revokeCredential(name));
  }

  /** Twice is fine. What is to leave is asked of people then, so whoever closes has a hand in it. */
  async closeRun(principal: Principal, runId: string, { reason, summary }: CloseRun): Promise<RunView> {
    this.access.require(principal, 'call');
    const row = this.access.find(principal, runId);
    const entry = this.#open.get(row.id);
    if (entry !== undefined)
      await this.#participants.joinBeside(principal, entry, 'closed', () => this.#open.close(entry, reason, summary));
    return this.#view(this.access.find(principal, runId));
  }

  async takeSnapshot(principal: Principal, runId: string, { scratch }: TakeSnapshot): Promise<SnapshotView> {
    this.#ask(principal, 'call');
    const entry = this.find(principal, runId, 'call');
    return entry.snapshots.keep(() => entry.run.snapshot({ scratch }), now());
  }

  async restore(principal: Principal, runId: string, snapshot: string): Promise<void> {
    const entry = this.find(principal, runId, 'call');
    const to = await entry.snapshots.get(snapshot);
    await this.#participants.join(principal, entry, 'restored');
    await entry.run.restore(to);
  }

  /** Opens no more runs, waits for calls that run, then closes what is open, or leaves it as it is. */
  async drain(deadlineMs: number, open: 'close' | 'leave' = 'close'): Promise<void> {
    this.#draining = true;
    this.stats.stop();
    await Promise.all([this.#opening.stop(), this.verifications.stop(deadlineMs)]);
    await this.#underWay.quiet(deadlineMs, open === 'leave' ? 'answered' : 'ended');
    if (open === 'leave') return;
    await this.#open.closeAll('the service has stopped');
  }

  /** What looks at much or makes much takes one of the calls that there may be in a minute. */
  #ask(principal: Principal, scope: Parameters<Access['require']>[1]): void {
    this.access.require(principal, scope);
    this.#quotas.call(principal);
  }

  #known(principal: Principal, runId: string): KnownRun {
    const { id } = this.access.find(principal, runId);
    return { dir: this.dataDir.runDir(id), open: this.#open.get(id) };
  }

  #view(row: RunRow): RunView {
    return runView(row, this.#open.get(row.id)?.run);
  }
}

function now(): string {
  return new Date().toISOString();
}
