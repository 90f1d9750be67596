import type { ApprovalFilter, ApprovalView, DecideApproval } from '../contract/approval-view.ts';
import type { ServiceEvent } from '../contract/event.ts';
import type { OpenRunInput, RunPage, RunView } from '../contract/run-view.ts';
import type { StatsQuery, StatsView } from '../contract/stats-view.ts';
import { newId } from '../ids.ts';
import { EmbeddedTransport, type EmbeddedService } from './embedded-transport.ts';
import { followEvents } from './follow.ts';
import { HttpTransport, type Address } from './http-transport.ts';
import { Keys } from './keys.ts';
import { RemoteRun } from './remote-run.ts';
import { jsonBody, Requests, type ReaskOptions } from './requests.ts';
import type { Transport } from './transport.ts';
import { Workspaces } from './workspaces.ts';

export { RunnerError, isRunnerError, type ErrorCode } from '../errors.ts';
export type { ApprovalView } from '../contract/approval-view.ts';
export type { ContextSnapshotInput } from '../context/context-snapshot.ts';
export type { AttachedView, ContextView } from '../contract/context-view.ts';
export type { DiffView } from '../contract/diff-view.ts';
export type { GiveReview, ReviewRecordView, ReviewView, SetbackView } from '../contract/review-view.ts';
export type { ServiceEvent } from '../contract/event.ts';
export type { KeyDraft, KeyView, NewKey } from '../contract/key-view.ts';
export type { WorkspaceView } from '../contract/workspace-view.ts';
export type { BudgetView, OpenRunInput, RunPage, RunView, SnapshotView } from '../contract/run-view.ts';
export type { StatsQuery, StatsView } from '../contract/stats-view.ts';
export type { VerificationList, VerificationState, VerificationView } from '../contract/verification-view.ts';
export type { Entry } from '../journal/entry.ts';
export type { ToolCallInput, ToolName } from '../tools/tool-call.ts';
export type { ToolData, ToolResult } from '../tools/tool-result.ts';
export type { Command, ExecOptions, ExecutedCommand } from './exec.ts';
export type { OutputOptions, OutputStream } from './output-stream.ts';
export type { RemoteCommand } from './remote-command.ts';
export type { CallOptions, RemoteRun, VerifyOptions } from './remote-run.ts';
export type { Reask, ReaskOptions } from './requests.ts';
export type { ResultOf } from './typed-result.ts';

/** Where the service is: a URL (`http://`, `https://`, `unix:/path`), or the path of its socket. */
export type ConnectOptions = ReaskOptions &
  Omit<Address, 'url'> &
  ({ readonly url: string } | { readonly socketPath: string });

export type EmbeddedOptions = ReaskOptions & {
  /** Default: the usual one of this user, `GLOVEBOX_DATA`. */
  readonly dataDir?: string;
};

export interface OpenOptions {
  readonly signal?: AbortSignal | undefined;
  /** The same key is the same run: to ask once more where it is not known whether it was opened. Default: a new one. */
  readonly idempotencyKey?: string | undefined;
}

/**
 * A runner service, elsewhere or in this process, by one interface. Importing this loads nothing of an engine; `embedded` does
 * when it is called. Nothing is ever asked twice but what is the same when it is asked twice: what only looks, and a call under
 * its id.
 */
export class GloveboxClient {
  readonly runs: Runs;
  readonly approvals: Approvals;
  readonly workspaces: Workspaces;
  readonly keys: Keys;
  readonly #requests: Requests;

  private constructor(transport: Transport, options: ReaskOptions) {
    this.#requests = new Requests(transport, options);
    this.runs = new Runs(this.#requests);
    this.approvals = new Approvals(this.#requests);
    this.workspaces = new Workspaces(this.#requests);
    this.keys = new Keys(this.#requests);
  }

  /** Nothing is sent yet; a service that is not there is said by the first request. */
  static async connect(options: ConnectOptions): Promise<GloveboxClient> {
    const url = 'url' in options ? options.url : `unix:${options.socketPath}`;
    return new GloveboxClient(await HttpTransport.open({ url, key: options.key, as: options.as }), options);
  }

  /** A service of its own in this process, which `close` ends. Throws what opening one throws, `data_dir_in_use` above all. */
  static async embedded(options: EmbeddedOptions = {}): Promise<GloveboxClient> {
    const { openEmbedded } = await import('../main.ts');
    return GloveboxClient.within(await openEmbedded(options), options);
  }

  /** The same for a service that this process has open already. */
  static within(service: EmbeddedService, options: ReaskOptions = {}): GloveboxClient {
    return new GloveboxClient(new EmbeddedTransport(service), options);
  }

  /** What happens in the runs of this team, from now on, until `signal`. What happened while a connection was lost is missed. */
  async *events({ run, signal }: { readonly run?: string; readonly signal?: AbortSignal } = {}): AsyncGenerator<
    ServiceEvent,
    void
  > {
    const path = `/v1/events${queryOf({ run })}`;
    for await (const { data } of followEvents(this.#requests, path, { signal, isEnd: ({ event }) => event === 'end' }))
      yield JSON.parse(data) as ServiceEvent;
  }

  /** What the runs of this team took, and what became of them; `since` by RFC 3339, default 30 days ago. */
  stats(query: StatsQuery = {}, signal?: AbortSignal): Promise<StatsView> {
    return this.#requests.json({ method: 'GET', path: `/v1/stats${queryOf(query)}`, repeatable: true, signal });
  }

  /** Rejects with `service_unavailable` or `draining` where it cannot be worked with. */
  async ready(signal?: AbortSignal): Promise<void> {
    await this.#requests.bytes({ method: 'GET', path: '/v1/health/ready', repeatable: true, signal });
  }

  /** Ends connections, and a service of this process's own. */
  close(): Promise<void> {
    return this.#requests.close();
  }
}

class Runs {
  readonly #requests: Requests;

  constructor(requests: Requests) {
    this.#requests = requests;
  }

  async open(run: OpenRunInput, { signal, idempotencyKey = newId() }: OpenOptions = {}): Promise<RemoteRun> {
    const { id } = await this.#requests.json<RunView>({
      method: 'POST',
      path: '/v1/runs',
      ...jsonBody(run, { 'idempotency-key': idempotencyKey }),
      silenceMs: 180_000,
      signal,
    });
    return this.get(id);
  }

  /** By its id; nothing is asked yet. */
  get(id: string): RemoteRun {
    return new RemoteRun(this.#requests, id);
  }

  /** Newest first. */
  list(
    filter: { state?: RunView['state']; name?: string; limit?: number; cursor?: string } = {},
    signal?: AbortSignal,
  ): Promise<RunPage> {
    return this.#requests.json({ method: 'GET', path: `/v1/runs${queryOf(filter)}`, repeatable: true, signal });
  }
}

class Approvals {
  readonly #requests: Requests;

  constructor(requests: Requests) {
    this.#requests = requests;
  }

  async list(filter: ApprovalFilter = {}, signal?: AbortSignal): Promise<readonly ApprovalView[]> {
    const path = `/v1/approvals${queryOf(filter)}`;
    type Listed = { readonly approvals: readonly ApprovalView[] };
    return (await this.#requests.json<Listed>({ method: 'GET', path, repeatable: true, signal })).approvals;
  }

  get(id: string, signal?: AbortSignal): Promise<ApprovalView> {
    const path = `/v1/approvals/${encodeURIComponent(id)}`;
    return this.#requests.json({ method: 'GET', path, repeatable: true, signal });
  }

  /** Refused with `forbidden` for whoever takes part in the run. */
  decide(id: string, verdict: { readonly approve: boolean; readonly reason?: string }): Promise<ApprovalView> {
    const body: Partial<DecideApproval> = verdict;
    return this.#requests.json({
      method: 'POST',
      path: `/v1/approvals/${encodeURIComponent(id)}`,
      ...jsonBody(body),
    });
  }
}

function queryOf(fields: Readonly<Record<string, string | number | undefined>>): string {
  const given = Object.entries(fields).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${encodeURIComponent(value)}`],
  );
  return given.length === 0 ? '' : `?${given.join('&')}`;
}
