import type { Duplex } from 'node:stream';
import type { RunState } from '../control/controlled.ts';
import type { ContextSnapshotInput } from '../context/context-snapshot.ts';
import type { AttachedView, ContextView } from '../contract/context-view.ts';
import type { FingerprintView } from '../contract/fingerprint-view.ts';
import type { DiffView } from '../contract/diff-view.ts';
import type { GiveReview, ReviewRecordView, ReviewView, SetbackView } from '../contract/review-view.ts';
import type { BlameReport } from '../contract/blame-view.ts';
import type { VerificationList, VerificationState, VerificationView } from '../contract/verification-view.ts';
import type { BudgetView, CloseRun, ForkRun, RunView, SnapshotView } from '../contract/run-view.ts';
import { isRunnerError, RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import type { Entry } from '../journal/entry.ts';
import type { ToolDescription } from '../tools/describe.ts';
import type { ToolName } from '../tools/tool-call.ts';
import { ExecutedCommand, type Command, type ExecOptions } from './exec.ts';
import { followEvents } from './follow.ts';
import type { OutputStream, OutputOptions } from './output-stream.ts';
import { RemoteCommand } from './remote-command.ts';
import { callBody } from './payload.ts';
import { jsonBody, type Requests } from './requests.ts';
import type { Ask } from './transport.ts';
import type { ArgumentsOf, CallOf, ResultOf } from './typed-result.ts';

export interface CallOptions {
  /** Of the caller's choosing: the same id is the same call, which never runs twice. Default: a new one. */
  readonly callId?: string | undefined;
  /** Ends the wait, not the call: asking again with the same id tells what became of it. */
  readonly signal?: AbortSignal | undefined;
}

export interface VerifyOptions {
  readonly after?: string | undefined;
  readonly onStep?: (state: VerificationState) => void;
  readonly signal?: AbortSignal | undefined;
}

/** The same as the service has it, a little longer. */
const answerMs = 90_000;
const stepMs = 30_000;
/** All of it is read once before the first byte comes. */
const bundleMs = 600_000;

/**
 * A run of a service. What an agent's call comes to (a failing command, a file that is not there, a denial) is a result; what the
 * harness asked wrongly, or the service broke, is a `RunnerError` with the service's code and request id. A call whose answer was
 * lost on the way is asked for again under its id, which never does it twice; nothing else is ever asked again.
 */
export class RemoteRun {
  readonly id: string;
  readonly #requests: Requests;
  readonly #path: string;

  constructor(requests: Requests, id: string) {
    this.id = id;
    this.#requests = requests;
    this.#path = `/v1/runs/${encodeURIComponent(id)}`;
  }

  view(signal?: AbortSignal): Promise<RunView> {
    return this.#get('', signal);
  }

  budget(signal?: AbortSignal): Promise<BudgetView> {
    return this.#get('/budget', signal);
  }

  /** What is offered here, with JSON Schemas, as models want to have it described. */
  async tools(signal?: AbortSignal): Promise<readonly ToolDescription[]> {
    return (await this.#get<{ tools: readonly ToolDescription[] }>('/tools', signal)).tools;
  }

  /** Any tool call, as `docs/tools.md` describes it. */
  call<T extends ToolName>(callId: string, call: CallOf<T>, signal?: AbortSignal): Promise<ResultOf<T>> {
    return this.#requests.json({
      method: 'PUT',
      ...callBody(this.#callPath(callId), call),
      repeatable: true,
      silenceMs: answerMs + ('yieldMs' in call && typeof call.yieldMs === 'number' ? call.yieldMs : 0),
      signal,
    });
  }

  /**
   * A command, to its end: argv, or a string for a shell. Aborting `signal` ends the command with its whole process tree, then
   * throws the signal's reason.
   */
  async exec(command: Command, options: ExecOptions = {}): Promise<ResultOf<'exec'>> {
    return (await ExecutedCommand.start(this, command, options, false)).ended;
  }

  /** The same, as soon as it runs. */
  async start(command: Command, options: ExecOptions = {}): Promise<ExecutedCommand> {
    return ExecutedCommand.start(this, command, options);
  }

  /** One that was started before, here or elsewhere. */
  command(callId: string): RemoteCommand {
    return new RemoteCommand(this.#requests, this.#callPath(callId), callId);
  }

  output(callId: string, options: OutputOptions = {}): OutputStream {
    return this.command(callId).output(options);
  }

  read(path: string, options: ArgumentsOf<'read', 'path'> & CallOptions = {}): Promise<ResultOf<'read'>> {
    return this.#tool({ tool: 'read', path, ...argumentsOf(options) }, options);
  }

  write(
    path: string,
    content: string | Uint8Array,
    options: ArgumentsOf<'write', 'path' | 'content'> & CallOptions = {},
  ): Promise<ResultOf<'write'>> {
    const bytes = typeof content === 'string' ? { utf8: content } : { base64: content };
    return this.#tool({ tool: 'write', path, content: bytes, ...argumentsOf(options) }, options);
  }

  /** `old` must be there once, or as `options` say. */
  edit(
    path: string,
    old: string,
    replacement: string,
    options: ArgumentsOf<'edit', 'path' | 'old' | 'new'> & CallOptions = {},
  ): Promise<ResultOf<'edit'>> {
    return this.#tool({ tool: 'edit', path, old, new: replacement, ...argumentsOf(options) }, options);
  }

  applyPatch(
    patch: string,
    options: ArgumentsOf<'apply_patch', 'patch'> & CallOptions = {},
  ): Promise<ResultOf<'apply_patch'>> {
    return this.#tool({ tool: 'apply_patch', patch, ...argumentsOf(options) }, options);
  }

  grep(pattern: string, options: ArgumentsOf<'grep', 'pattern'> & CallOptions = {}): Promise<ResultOf<'grep'>> {
    return this.#tool({ tool: 'grep', pattern, ...argumentsOf(options) }, options);
  }

  glob(pattern: string, options: ArgumentsOf<'glob', 'pattern'> & CallOptions = {}): Promise<ResultOf<'glob'>> {
    return this.#tool({ tool: 'glob', pattern, ...argumentsOf(options) }, options);
  }

  list(path = '.', options: ArgumentsOf<'list', 'path'> & CallOptions = {}): Promise<ResultOf<'list'>> {
    return this.#tool({ tool: 'list', path, ...argumentsOf(options) }, options);
  }

  /** The changes so far, classified, with what was refused, held back or stood outside. While no command runs. */
  diff(signal?: AbortSignal): Promise<DiffView> {
    return this.#get('/diff', signal);
  }

  /** The same as a patch that `git apply` takes. */
  patch(signal?: AbortSignal): Promise<Buffer> {
    return this.#requests.bytes({
      method: 'GET',
      path: `${this.#path}/patch`,
      repeatable: true,
      silenceMs: answerMs,
      signal,
    });
  }

  /** What the gates found of what it proposes: the newest. `not_found` where it was never verified. */
  verification(signal?: AbortSignal): Promise<VerificationView> {
    return this.#get('/verification', signal);
  }

  /** Every verification that was kept, the newest first, and the one that is being made. */
  verifications(signal?: AbortSignal): Promise<VerificationList> {
    return this.#get('/verifications', signal);
  }

  /**
   * Has a closed run judged, and waits for it: a verification that is newer than `after`; without it, whichever is there. `onStep` is told how far
   * it has come. Aborting `signal` gives it up, then throws the signal's reason; a connection that is lost gives up nothing.
   */
  async verify({ after, onStep, signal }: VerifyOptions = {}): Promise<VerificationState> {
    const body = after === undefined ? {} : { after };
    let state = await this.#requests.json<VerificationState>({
      ...this.#posting('/verifications', body),
      repeatable: true,
    });
    const path = `/verifications/${state.id}`;
    try {
      for (
        ;
        state.state === 'running';
        state = await this.#get(`${path}?seen=${state.step}&waitMs=${stepMs}`, signal)
      ) {
        signal?.throwIfAborted();
        onStep?.(state);
      }
    } catch (error) {
      if (signal?.aborted === true) await this.#post(`${path}/cancel`, {}).catch(() => undefined); // it is given up either way
      throw isRunnerError(error, 'not_found') ? this.#forgotten(error) : error;
    }
    onStep?.(state);
    return state;
  }

  /** What its environment is, section by section, while it is open; later what it last was. */
  fingerprint(signal?: AbortSignal): Promise<FingerprintView> {
    return this.#get('/fingerprint', signal);
  }

  /** What a reviewer has to see of a closed run; the diff is `patch()`. */
  review(signal?: AbortSignal): Promise<ReviewView> {
    return this.#get('/review', signal, bundleMs);
  }

  /** A word on exactly this manifest, of the identity of the key; the same once more changes nothing. */
  giveReview(review: Omit<GiveReview, 'reason'> & { readonly reason?: string }): Promise<ReviewRecordView> {
    return this.#requests.json({ ...this.#posting('/reviews', review), repeatable: true, silenceMs: bundleMs });
  }

  /** Earlier promotions of the files that it has changed, which were rolled back. */
  async setbacks(signal?: AbortSignal): Promise<readonly SetbackView[]> {
    return (await this.#get<{ readonly setbacks: readonly SetbackView[] }>('/setbacks', signal)).setbacks;
  }

  /** Who wrote each line of a file, or one line: the call, its model, what its agent believed (`docs/context.md`). */
  blame(
    path: string,
    { line, signal }: { readonly line?: number; readonly signal?: AbortSignal } = {},
  ): Promise<BlameReport> {
    const query = new URLSearchParams({ path, ...(line === undefined ? {} : { line: `${line}` }) });
    return this.#get(`/blame?${query.toString()}`, signal);
  }

  /**
   * All that a closed run has left, as one signed file (`docs/bundle.md`), as it comes: of one that breaks off there is none.
   */
  async bundle(signal?: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const path = `${this.#path}/bundle`;
    return (await this.#requests.once({ method: 'GET', path, silenceMs: bundleMs, signal })).body;
  }

  /** The journal from the entry after `after` on, and what is still to come, until the run is closed. */
  async *journal({
    after = 0,
    signal,
  }: { readonly after?: number; readonly signal?: AbortSignal } = {}): AsyncGenerator<Entry, void> {
    const events = followEvents(this.#requests, `${this.#path}/journal`, {
      after: `${after}`,
      signal,
      isEnd: () => false,
    });
    for await (const { data } of events) {
      const entry = JSON.parse(data) as Entry;
      yield entry;
      if (entry.type === 'run.closed') return;
    }
  }

  /** The journal as it is on the service's disk, whatever is in it. */
  journalBytes(signal?: AbortSignal): Promise<Buffer> {
    const path = `${this.#path}/journal`;
    return this.#requests.bytes({ method: 'GET', path, repeatable: true, silenceMs: answerMs, signal });
  }

  /** The entries that are there now. */
  async entries(signal?: AbortSignal): Promise<readonly Entry[]> {
    const text = await this.journalBytes(signal);
    const lines = text.toString('utf8').split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as Entry);
  }

  snapshot(options: { readonly scratch?: boolean } = {}): Promise<SnapshotView> {
    return this.#post('/snapshots', options);
  }

  async snapshots(signal?: AbortSignal): Promise<readonly SnapshotView[]> {
    return (await this.#get<{ readonly snapshots: readonly SnapshotView[] }>('/snapshots', signal)).snapshots;
  }

  async restore(snapshot: string): Promise<void> {
    await this.#requests.bytes(this.#posting('/restore', { snapshot }));
  }

  async fork(options: Partial<ForkRun> = {}): Promise<readonly RemoteRun[]> {
    const { runs } = await this.#post<{ readonly runs: readonly RunView[] }>('/forks', options);
    return runs.map(({ id }) => new RemoteRun(this.#requests, id));
  }

  /** What its agent believes from here on. Asked for again where the answer was lost: the same one twice is the same. */
  attachContext(snapshot: ContextSnapshotInput, signal?: AbortSignal): Promise<AttachedView> {
    return this.#requests.json({ ...this.#posting('/context', snapshot), repeatable: true, signal });
  }

  /** Who worked in it and what they believed: now, or when `call` was made. Also of a closed run. */
  context({ call, signal }: { readonly call?: string; readonly signal?: AbortSignal } = {}): Promise<ContextView> {
    return this.#get(`/context${call === undefined ? '' : `?call=${encodeURIComponent(call)}`}`, signal);
  }

  /** Which rules and credentials it still has. */
  reach(signal?: AbortSignal): Promise<RunState> {
    return this.#get('/egress', signal);
  }

  /** Takes rules away for the rest of the run; what they had let through is cut. */
  narrowEgress(without: readonly string[]): Promise<RunState> {
    return this.#post('/egress/narrow', { without });
  }

  revokeCredential(name: string): Promise<RunState> {
    return this.#post(`/credentials/${encodeURIComponent(name)}/revoke`, {});
  }

  /** A connection to a port on the loopback inside. */
  connect(port: number, signal?: AbortSignal): Promise<Duplex> {
    return this.#requests.transport.connect(`${this.#path}/ports/${port}`, signal);
  }

  /** Ends what still runs, takes the diff, seals the journal, removes the sandbox. May be asked twice. */
  close(options: Partial<CloseRun> = {}): Promise<RunView> {
    return this.#post('/close', options);
  }

  /** Nothing is kept of one that its service did not finish. */
  #forgotten(cause: RunnerError): RunnerError {
    const message = `the service that verified run ${this.id} has ended meanwhile, and nothing is kept of that; verify it again`;
    return new RunnerError('service_unavailable', message, { cause });
  }

  #tool<T extends ToolName>(call: CallOf<T>, { callId, signal }: CallOptions): Promise<ResultOf<T>> {
    return this.call<T>(callId ?? newId(), call, signal);
  }

  #callPath(callId: string): string {
    return `${this.#path}/calls/${encodeURIComponent(callId)}`;
  }

  #get<T>(path: string, signal: AbortSignal | undefined, silenceMs = answerMs): Promise<T> {
    const ask: Ask = { method: 'GET', path: this.#path + path, repeatable: true, silenceMs, signal };
    return this.#requests.json(ask);
  }

  #post<T>(path: string, body: object): Promise<T> {
    return this.#requests.json(this.#posting(path, body));
  }

  #posting(path: string, body: object): Ask {
    return { method: 'POST', path: this.#path + path, ...jsonBody(body), silenceMs: answerMs };
  }
}

function argumentsOf<T extends CallOptions>(options: T): Omit<T, keyof CallOptions> {
  const { callId: _, signal: __, ...rest } = options;
  return rest;
}
